// An unbounded queue between threads with a clean end: close() lets readers drain what is left.
// Thread safety: all methods may be called from any thread.
#pragma once

#include <deque>
#include <optional>
#include <utility>

#include "longhaul/base/clock.h"
#include "longhaul/base/mutex.h"

namespace longhaul {

template <typename T>
class Queue {
 public:
  // Returns false, and drops `value`, when the queue is closed.
  bool push(T value) {
    MutexLock lock(mutex_);
    if (closed_) return false;
    values_.push_back(std::move(value));
    changed_.notify_one();
    return true;
  }

  // Waits for a value; nullopt when the queue is closed and empty.
  std::optional<T> pop() {
    MutexLock lock(mutex_);
    while (values_.empty() && !closed_) changed_.wait(mutex_);
    return take();
  }

  // As pop(), but also nullopt when `deadline` passes first.
  std::optional<T> pop_until(Instant deadline) {
    MutexLock lock(mutex_);
    while (values_.empty() && !closed_) {
      if (!changed_.wait_until(mutex_, deadline)) break;
    }
    return take();
  }

  void close() {
    MutexLock lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  bool closed() const {
    MutexLock lock(mutex_);
    return closed_;
  }

 private:
  std::optional<T> take() LONGHAUL_REQUIRES(mutex_) {
    if (values_.empty()) return std::nullopt;
    std::optional<T> value(std::move(values_.front()));
    values_.pop_front();
    return value;
  }

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<T> values_ LONGHAUL_GUARDED_BY(mutex_);
  bool closed_ LONGHAUL_GUARDED_BY(mutex_) = false;
};

}  // namespace longhaul

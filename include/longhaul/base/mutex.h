// A mutex that clang's -Wthread-safety understands: every field a lock guards says so with
// LONGHAUL_GUARDED_BY, and the compiler checks it. Attributes as documented for clang's Thread
// Safety Analysis; elsewhere they vanish.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define LONGHAUL_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define LONGHAUL_THREAD_ATTRIBUTE(x)
#endif

#define LONGHAUL_GUARDED_BY(x) LONGHAUL_THREAD_ATTRIBUTE(guarded_by(x))
#define LONGHAUL_REQUIRES(...) LONGHAUL_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define LONGHAUL_EXCLUDES(...) LONGHAUL_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))

namespace longhaul {

class LONGHAUL_THREAD_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void lock() LONGHAUL_THREAD_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
  void unlock() LONGHAUL_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class LONGHAUL_THREAD_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) LONGHAUL_THREAD_ATTRIBUTE(acquire_capability(mutex))
      : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() LONGHAUL_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Call wait() in a loop around the condition, with the mutex held: wake-ups may be spurious.
class CondVar {
 public:
  void wait(Mutex& mutex) LONGHAUL_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  // Returns false when `deadline` passed first.
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point deadline)
      LONGHAUL_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool in_time = condition_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace longhaul

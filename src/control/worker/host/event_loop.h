// One thread that waits for descriptors, timers and tasks from other threads, and runs what belongs
// to them one after the other: what is touched only here needs no lock.
//
// Thread safety: post() and stop() from any thread; everything else on the thread that calls run(),
// or while nobody does.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/owner.h"
#include "base/unique_fd.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/mutex.h"

namespace longhaul {

class EventLoop {
 public:
  using Task = std::function<void()>;
  using TimerId = uint64_t;

  // Throws Error(kInternal) when the kernel gives no epoll or eventfd.
  EventLoop();

  // Runs until stop(); then runs the tasks posted so far and takes no more.
  void run();
  void stop();

  // Returns false, and drops `task`, when the loop has ended.
  bool post(Task task) LONGHAUL_EXCLUDES(mutex_);

  // Calls `ready` whenever `fd` can be read or has been closed by its other side, until
  // unwatch(fd). The caller keeps the descriptor and unwatches it before closing it.
  void watch(int fd, Task ready);
  void unwatch(int fd);

  TimerId after(milliseconds delay, Task task);

  // Runs `task` in a turn of its own, after those that were given this way before it. For work that
  // is short alone and long together, such as starting many processes: descriptors and timers are
  // looked at between two of them, so no heartbeat is kept waiting.
  TimerId in_own_turn(Task task);

  // Cancels what after() or in_own_turn() was given. Does nothing for 0 and for what has run.
  void cancel(TimerId timer);

 private:
  void run_tasks() LONGHAUL_EXCLUDES(mutex_);
  void run_timers();
  void run_next_in_line();
  int next_timeout_ms() const;
  void wake();

  Owner owner_;
  UniqueFd epoll_;
  UniqueFd wake_up_;
  bool stopping_ = false;
  TimerId last_timer_ = 0;
  std::map<int, std::shared_ptr<Task>> watched_;  // shared: a callback may unwatch itself
  std::map<std::pair<Instant, TimerId>, Task> timers_;
  std::deque<std::pair<TimerId, Task>> line_;  // one a turn

  Mutex mutex_;
  std::vector<Task> tasks_ LONGHAUL_GUARDED_BY(mutex_);
  bool closed_ LONGHAUL_GUARDED_BY(mutex_) = false;
};

}  // namespace longhaul

#include "control/worker/host/event_loop.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "longhaul/base/error.h"
#include "longhaul/base/strings.h"

namespace longhaul {

EventLoop::EventLoop()
    : epoll_(::epoll_create1(EPOLL_CLOEXEC)), wake_up_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!epoll_.valid() || !wake_up_.valid()) {
    throw Error(ErrorKind::kInternal, str_cat("event loop: ", ::strerror(errno)));
  }
  watch(wake_up_.get(), [this] {
    uint64_t count = 0;
    (void)!::read(wake_up_.get(), &count, sizeof(count));
  });
}

void EventLoop::run() {
  const Owner::Term term(owner_);
  std::array<epoll_event, 64> events;
  while (!stopping_) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), next_timeout_ms());
    for (int i = 0; i < count; ++i) {
      // An earlier callback of this round may have unwatched it. The copy keeps this one alive
      // while it runs, because it may unwatch itself.
      const auto found = watched_.find(events[i].data.fd);
      if (found == watched_.end()) continue;
      const std::shared_ptr<Task> ready = found->second;
      (*ready)();
    }
    run_timers();
    run_tasks();
    run_next_in_line();
  }
  // From here on post() refuses; what it took before still runs, so a task is run or refused, never
  // lost.
  {
    MutexLock lock(mutex_);
    closed_ = true;
  }
  run_tasks();
}

void EventLoop::stop() {
  post([this] { stopping_ = true; });
}

bool EventLoop::post(Task task) {
  bool first = false;
  {
    MutexLock lock(mutex_);
    if (closed_) return false;
    first = tasks_.empty();
    tasks_.push_back(std::move(task));
  }
  // If there were tasks already, their poster has woken the loop, and it has not taken them yet.
  if (first) wake();
  return true;
}

void EventLoop::wake() {
  const uint64_t one = 1;
  (void)!::write(wake_up_.get(), &one, sizeof(one));
}

void EventLoop::watch(int fd, Task ready) {
  owner_.assert_owner();
  watched_[fd] = std::make_shared<Task>(std::move(ready));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw Error(ErrorKind::kInternal, str_cat("epoll: descriptor ", fd, ": ", ::strerror(errno)));
  }
}

void EventLoop::unwatch(int fd) {
  owner_.assert_owner();
  if (watched_.erase(fd) != 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

EventLoop::TimerId EventLoop::after(milliseconds delay, Task task) {
  owner_.assert_owner();
  const TimerId id = ++last_timer_;
  timers_.emplace(std::pair(std::chrono::steady_clock::now() + delay, id), std::move(task));
  return id;
}

EventLoop::TimerId EventLoop::in_own_turn(Task task) {
  owner_.assert_owner();
  line_.emplace_back(++last_timer_, std::move(task));
  return last_timer_;
}

void EventLoop::cancel(TimerId timer) {
  owner_.assert_owner();
  std::erase_if(timers_, [timer](const auto& entry) { return entry.first.second == timer; });
  std::erase_if(line_, [timer](const auto& entry) { return entry.first == timer; });
}

void EventLoop::run_next_in_line() {
  if (line_.empty()) return;
  const Task task = std::move(line_.front().second);
  line_.pop_front();
  task();
}

void EventLoop::run_tasks() {
  // Taken out first: a task may post others, which come in the next turn.
  std::vector<Task> tasks;
  {
    MutexLock lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const Task& task : tasks) task();
}

void EventLoop::run_timers() {
  const Instant now = std::chrono::steady_clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    const Task task = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    task();
  }
}

int EventLoop::next_timeout_ms() const {
  // Somebody waits in line: one runs in each turn, so descriptors and timers are looked at between
  // two of them, and nothing is waited for.
  if (!line_.empty()) return 0;
  if (timers_.empty()) return -1;
  const auto wait = timers_.begin()->first.first - std::chrono::steady_clock::now();
  // Rounded up, so that the loop does not spin through the last millisecond.
  return static_cast<int>(
      std::clamp<int64_t>(std::chrono::ceil<milliseconds>(wait).count(), 0, 60'000));
}

}  // namespace longhaul

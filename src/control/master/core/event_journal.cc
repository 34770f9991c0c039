#include "control/master/core/event_journal.h"

#include <algorithm>
#include <iterator>

namespace longhaul {

EventJournal::EventJournal(size_t keep, std::vector<v1::Event> events)
    : keep_(std::max<size_t>(1, keep)),
      last_number_(events.empty() ? 0 : events.back().number()),
      events_(std::make_move_iterator(events.begin()), std::make_move_iterator(events.end())) {
  MutexLock lock(mutex_);
  trim();
}

void EventJournal::trim() {
  while (events_.size() > keep_) events_.pop_front();
}

void EventJournal::publish(std::vector<v1::Event> events) {
  std::vector<std::shared_ptr<FeedListener>> awake;
  {
    MutexLock lock(mutex_);
    std::move(events.begin(), events.end(), std::back_inserter(events_));
    trim();
    std::erase_if(listeners_, [](const auto& one) { return one.expired(); });
    for (const auto& listener : listeners_) {
      if (auto one = listener.lock()) awake.push_back(std::move(one));
    }
  }
  // Without the lock: a listener that is woken reads the journal, which takes it again.
  for (const auto& listener : awake) listener->wake();
}

EventJournal::Cursor EventJournal::start(Cursor wanted) const {
  MutexLock lock(mutex_);
  if (events_.empty() || wanted.after > events_.back().number()) wanted.after = 0;
  return wanted;
}

EventJournal::Next EventJournal::next(Cursor* cursor, v1::Event* event) const {
  MutexLock lock(mutex_);
  auto one = std::upper_bound(
      events_.begin(), events_.end(), cursor->after,
      [](uint64_t after, const v1::Event& candidate) { return after < candidate.number(); });
  for (; one != events_.end(); ++one) {
    cursor->after = one->number();
    if (!cursor->job.empty() && one->job_id() != cursor->job) continue;
    // After its end nothing happens to a job any more.
    if (!cursor->job.empty() && one->kind() == v1::EVENT_KIND_JOB_ENDED) cursor->follow = false;
    if (!cursor->worker.empty() && one->worker_id() != cursor->worker) continue;
    if (one->unix_ms() < cursor->since_unix_ms) continue;
    *event = *one;
    return Next::kEvent;
  }
  return cursor->follow ? Next::kNothingYet : Next::kEnd;
}

bool EventJournal::knows_job(const std::string& job) const {
  MutexLock lock(mutex_);
  return std::any_of(events_.begin(), events_.end(),
                     [&](const v1::Event& event) { return event.job_id() == job; });
}

bool EventJournal::knows_worker(const std::string& worker) const {
  MutexLock lock(mutex_);
  return std::any_of(events_.begin(), events_.end(),
                     [&](const v1::Event& event) { return event.worker_id() == worker; });
}

void EventJournal::listen(const std::weak_ptr<FeedListener>& listener) {
  MutexLock lock(mutex_);
  listeners_.push_back(listener);
}

}  // namespace longhaul

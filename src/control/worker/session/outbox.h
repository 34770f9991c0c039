// What the master must not miss: events stay here until an answer to a heartbeat that was sent
// after them says that they arrived (the stream keeps order). After a reconnect they are sent
// again.
//
// Thread safety: none; pure values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "longhaul/v1/worker_service.pb.h"

namespace longhaul {

class Outbox {
 public:
  void add(v1::RankEvent event) { entries_.push_back({std::move(event), heartbeats_sent_ + 1}); }

  void heartbeat_sent() { ++heartbeats_sent_; }
  void heartbeat_answered() {
    // Answers are counted, their sequence numbers are not looked at: the stream keeps order, and
    // should one be missing, events are confirmed later, never too early.
    ++heartbeats_answered_;
    while (!entries_.empty() && entries_.front().confirmed_by <= heartbeats_answered_) {
      entries_.pop_front();
    }
  }

  // A new stream: all that is here will be sent again on it, before its first heartbeat.
  void restart() {
    heartbeats_sent_ = 0;
    heartbeats_answered_ = 0;
    for (Entry& entry : entries_) entry.confirmed_by = 1;
  }

  void drop_if(const std::function<bool(const v1::RankEvent&)>& unwanted) {
    std::erase_if(entries_, [&](const Entry& entry) { return unwanted(entry.event); });
  }

  bool holds(const std::function<bool(const v1::RankEvent&)>& wanted) const {
    return std::any_of(entries_.begin(), entries_.end(),
                       [&](const Entry& entry) { return wanted(entry.event); });
  }

  std::vector<v1::RankEvent> events() const {
    std::vector<v1::RankEvent> all;
    all.reserve(entries_.size());
    for (const Entry& entry : entries_) all.push_back(entry.event);
    return all;
  }

 private:
  struct Entry {
    v1::RankEvent event;
    uint64_t confirmed_by;  // the heartbeat whose answer confirms it
  };
  uint64_t heartbeats_sent_ = 0;
  uint64_t heartbeats_answered_ = 0;
  std::deque<Entry> entries_;
};

}  // namespace longhaul

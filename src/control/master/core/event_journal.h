// The journal as readers see it: the last events, all of them durable. The owner thread numbers an
// event when it happens and publishes it once it is on disk; readers pull with a cursor.
//
// Thread safety: next_number() from the owner thread; the rest from any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "control/master/feeds/job_feed.h"
#include "longhaul/base/mutex.h"
#include "longhaul/v1/event.pb.h"

namespace longhaul {

class EventJournal {
 public:
  // Keeps the last `keep` events; `events`: those of earlier lives of the master, in order.
  EventJournal(size_t keep, std::vector<v1::Event> events);

  uint64_t next_number() { return ++last_number_; }
  // What is kept beside an event of this number begins here.
  uint64_t first_kept(uint64_t number) const { return number < keep_ ? 1 : number - keep_ + 1; }
  void publish(std::vector<v1::Event> events);

  // Where one reader stands. The fields before the line are what it asked for.
  struct Cursor {
    std::string job;     // empty: all
    std::string worker;  // empty: all
    uint64_t since_unix_ms = 0;
    bool follow = false;  // of one job: until it has ended
    // ----
    uint64_t after = 0;  // events up to this one have been read
  };
  // A reader that has seen a later number than there is has seen the journal of another state: for
  // it all events here are new.
  Cursor start(Cursor wanted) const;

  enum class Next { kEvent, kNothingYet, kEnd };
  Next next(Cursor* cursor, v1::Event* event) const;

  // Whether any event that is kept names them.
  bool knows_job(const std::string& job) const;
  bool knows_worker(const std::string& worker) const;

  void listen(const std::weak_ptr<FeedListener>& listener);

 private:
  void trim() LONGHAUL_REQUIRES(mutex_);

  const size_t keep_;
  uint64_t last_number_ = 0;  // the owner thread's
  mutable Mutex mutex_;
  std::deque<v1::Event> events_ LONGHAUL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<FeedListener>> listeners_ LONGHAUL_GUARDED_BY(mutex_);
};

}  // namespace longhaul

// Counts what gradients cost on the wire. One per Communicator.
// Thread safety: all methods from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "longhaul/base/mutex.h"

namespace longhaul {

// `raw` is what the same algorithm would have sent without a codec, so raw / sent is the codec's
// ratio.
struct TrafficCounts {
  uint64_t bytes_raw = 0;
  uint64_t bytes_sent = 0;
  uint64_t operations = 0;  // collectives begun
  double wait_seconds = 0;  // backward passes waited for communication this long
  std::string operation;    // the one that runs now: "all-reduce of bucket 3 at step 17"
};

class Traffic {
 public:
  void add_bytes(uint64_t raw, uint64_t sent) {
    bytes_raw_ += raw;
    bytes_sent_ += sent;
  }
  void add_wait(double seconds) {
    MutexLock lock(mutex_);
    wait_seconds_ += seconds;
  }
  void begin_operation(const std::string& what) {
    ++operations_;
    MutexLock lock(mutex_);
    ++running_;
    operation_ = what;
  }
  // Several may run at once; the one begun last is shown until all have ended.
  void end_operation() {
    MutexLock lock(mutex_);
    if (--running_ == 0) operation_.clear();
  }
  TrafficCounts counts() const {
    MutexLock lock(mutex_);
    return {bytes_raw_, bytes_sent_, operations_, wait_seconds_, operation_};
  }

 private:
  std::atomic<uint64_t> bytes_raw_ = 0;
  std::atomic<uint64_t> bytes_sent_ = 0;
  std::atomic<uint64_t> operations_ = 0;
  mutable Mutex mutex_;
  double wait_seconds_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  int running_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  std::string operation_ LONGHAUL_GUARDED_BY(mutex_);
};

}  // namespace longhaul

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
  double link_bytes_per_second =
      0;                  // what this rank's links carried when last looked at; 0: unknown
  std::string codec;      // the one in use, and where it was chosen, why
  std::string operation;  // the one that runs now: "all-reduce of bucket 3 at step 17"
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
  void set_link_rate(double bytes_per_second) {
    MutexLock lock(mutex_);
    link_bytes_per_second_ = bytes_per_second;
  }
  void set_codec(const std::string& text) {
    MutexLock lock(mutex_);
    codec_ = text;
  }
  TrafficCounts counts() const {
    MutexLock lock(mutex_);
    return {bytes_raw_, bytes_sent_, operations_, wait_seconds_, link_bytes_per_second_,
            codec_,     operation_};
  }

 private:
  std::atomic<uint64_t> bytes_raw_ = 0;
  std::atomic<uint64_t> bytes_sent_ = 0;
  std::atomic<uint64_t> operations_ = 0;
  mutable Mutex mutex_;
  double wait_seconds_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  double link_bytes_per_second_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  std::string codec_ LONGHAUL_GUARDED_BY(mutex_);
  int running_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  std::string operation_ LONGHAUL_GUARDED_BY(mutex_);
};

}  // namespace longhaul

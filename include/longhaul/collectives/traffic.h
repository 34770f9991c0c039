// Counts what gradients cost on the wire. One per Communicator.
// Thread safety: all methods from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "longhaul/base/clock.h"
#include "longhaul/base/mutex.h"

namespace longhaul {

// `raw` is what the same algorithm would have sent without a codec, so raw / sent is the codec's
// ratio.
struct TrafficCounts {
  uint64_t bytes_raw = 0;
  uint64_t bytes_sent = 0;
  uint64_t operations = 0;   // collectives begun
  double wait_seconds = 0;   // backward passes waited for communication this long
  double busy_seconds = 0;   // at least one collective was under way
  double codec_seconds = 0;  // of processor time spent in encoding and decoding
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
  void add_codec(double seconds) {
    MutexLock lock(mutex_);
    codec_seconds_ += seconds;
  }
  void begin_operation(const std::string& what) {
    ++operations_;
    const Instant now = std::chrono::steady_clock::now();
    MutexLock lock(mutex_);
    if (running_++ == 0) busy_since_ = now;
    operation_ = what;
  }
  // Several may run at once; the one begun last is shown until all have ended.
  void end_operation() {
    const Instant now = std::chrono::steady_clock::now();
    MutexLock lock(mutex_);
    if (--running_ > 0) return;
    operation_.clear();
    busy_seconds_ += seconds_between(busy_since_, now);
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
    return {bytes_raw_,
            bytes_sent_,
            operations_,
            wait_seconds_,
            busy_seconds_,
            codec_seconds_,
            link_bytes_per_second_,
            codec_,
            operation_};
  }

 private:
  std::atomic<uint64_t> bytes_raw_ = 0;
  std::atomic<uint64_t> bytes_sent_ = 0;
  std::atomic<uint64_t> operations_ = 0;
  mutable Mutex mutex_;
  double wait_seconds_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  double busy_seconds_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  double codec_seconds_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  double link_bytes_per_second_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  std::string codec_ LONGHAUL_GUARDED_BY(mutex_);
  int running_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  Instant busy_since_ LONGHAUL_GUARDED_BY(mutex_);
  std::string operation_ LONGHAUL_GUARDED_BY(mutex_);
};

}  // namespace longhaul

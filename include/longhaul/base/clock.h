// Time comes in through an interface, so that decisions are tested without sleeping.
#pragma once

#include <chrono>
#include <cstdint>

namespace longhaul {

// Monotonic time since an arbitrary start; what deadlines and leases are counted in.
using Instant = std::chrono::steady_clock::time_point;
using std::chrono::milliseconds;

// Thread safety: implementations may be called from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant now() const = 0;
  // Wall-clock time in ms since 1970, for people and logs; it may jump, so nothing is decided on
  // it.
  virtual int64_t unix_ms() const = 0;
};

class SystemClock final : public Clock {
 public:
  Instant now() const override { return std::chrono::steady_clock::now(); }
  int64_t unix_ms() const override {
    return std::chrono::duration_cast<milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
};

// Seconds from `start` to `end`, as a double: for rates and reports.
inline double seconds_between(Instant start, Instant end) {
  return std::chrono::duration<double>(end - start).count();
}

}  // namespace longhaul

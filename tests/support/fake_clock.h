// A clock that moves only when the test says so. Thread safety: any thread.
#pragma once

#include <atomic>

#include "longhaul/base/clock.h"

namespace longhaul::testing {

class FakeClock final : public Clock {
 public:
  Instant now() const override { return Instant(milliseconds(now_ms_.load())); }
  int64_t unix_ms() const override { return 1'700'000'000'000 + now_ms_.load(); }
  void advance(milliseconds by) { now_ms_ += by.count(); }

 private:
  std::atomic<int64_t> now_ms_ = 1'000'000;
};

}  // namespace longhaul::testing

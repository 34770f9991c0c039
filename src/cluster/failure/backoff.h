// How long to wait before trying again: twice as long each time, up to a limit, with jitter so that
// what failed together does not come back together.
#pragma once

#include <cstdint>

#include "longhaul/base/clock.h"

namespace longhaul {

struct Backoff {
  milliseconds first{1000};
  milliseconds limit{60'000};

  // After the `failures`th failure (1, 2, ...): between half of first * 2^(failures - 1), or of
  // the limit, and all of it. `random` decides where; equal numbers give equal delays.
  milliseconds delay(uint32_t failures, uint64_t random) const;
};

}  // namespace longhaul

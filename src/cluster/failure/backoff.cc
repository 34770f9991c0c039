#include "cluster/failure/backoff.h"

#include <algorithm>

namespace longhaul {

milliseconds Backoff::delay(uint32_t failures, uint64_t random) const {
  milliseconds most = std::min(first, limit);
  // Doubled step by step: 2^failures would overflow.
  for (uint32_t i = 1; i < failures && most < limit; ++i) most = std::min(most * 2, limit);
  const milliseconds half = most / 2;
  const auto spread = static_cast<uint64_t>((most - half).count());
  return half + milliseconds(spread == 0 ? 0 : random % (spread + 1));
}

}  // namespace longhaul

// The numbers of leases.
#pragma once

#include <cstdint>

#include "longhaul/agent/lease.h"

namespace longhaul {

// Numbers leases. A master counts its boots on disk, before it grants anything, and puts that
// number above a counter: so an epoch is never used again, not even one whose grant was lost with
// the master before it was written. 40 bits of counter last for months of 100,000 grants a second,
// 23 bits of boots for eight million of them, and the sum fits SQLite's signed integers.
class LeaseEpochs {
 public:
  static constexpr int kCounterBits = 40;

  // `boot` >= 1, and greater than any before on this state folder.
  explicit LeaseEpochs(uint32_t boot);

  LeaseEpoch next();

 private:
  LeaseEpoch last_;
  LeaseEpoch end_;
};

}  // namespace longhaul

#include "cluster/arrays/lease_epochs.h"

#include "base/check.h"

namespace longhaul {

LeaseEpochs::LeaseEpochs(uint32_t boot)
    : last_(static_cast<LeaseEpoch>(boot) << kCounterBits),
      end_(last_ + (LeaseEpoch{1} << kCounterBits) - 1) {
  LONGHAUL_CHECK(boot >= 1u);
  LONGHAUL_CHECK(boot < 1u << (63 - kCounterBits));
}

LeaseEpoch LeaseEpochs::next() {
  // The numbers beyond belong to the next boot.
  LONGHAUL_CHECK(last_ < end_);
  return ++last_;
}

}  // namespace longhaul

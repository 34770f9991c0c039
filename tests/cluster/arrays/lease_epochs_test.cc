#include "cluster/arrays/lease_epochs.h"

#include <gtest/gtest.h>

#include "base/check.h"

namespace longhaul {
namespace {

TEST(LeaseEpochs, ARestartedMasterBeginsAboveWhateverItGrantedBefore) {
  LeaseEpochs first(1);
  LeaseEpoch last = 0;
  for (int i = 0; i < 1000; ++i) {
    const LeaseEpoch epoch = first.next();
    EXPECT_GT(epoch, last);
    last = epoch;
  }
  EXPECT_GT(LeaseEpochs(2).next(), last);
  EXPECT_GE(LeaseEpochs(2).next(), LeaseEpoch{2} << LeaseEpochs::kCounterBits);
}

TEST(LeaseEpochs, TheLastBootStillFitsASignedNumber) {
  constexpr uint32_t kLastBoot = (1u << 23) - 1;
  EXPECT_GT(static_cast<int64_t>(LeaseEpochs(kLastBoot).next()), 0);
  EXPECT_THROW(LeaseEpochs(kLastBoot + 1), BugError);
  EXPECT_THROW(LeaseEpochs(0), BugError);
}

}  // namespace
}  // namespace longhaul

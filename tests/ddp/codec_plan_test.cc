#include "ddp/codec_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul {
namespace {

using ::testing::HasSubstr;

// Speeds as one core of 2 GHz has them.
std::vector<CodecCandidate> candidates() {
  CodecCandidate none;
  none.encode_bytes_per_second = 30e9;
  none.decode_bytes_per_second = 30e9;
  CodecCandidate zstd = none;
  zstd.spec.kind = CodecSpec::Kind::kZstd;
  zstd.ratio = 1.2;
  zstd.encode_bytes_per_second = 2e9;
  zstd.decode_bytes_per_second = 4e9;
  CodecCandidate coarse = zstd;  // any further codec
  coarse.ratio = 9.5;
  coarse.encode_bytes_per_second = 10e9;
  coarse.decode_bytes_per_second = 10e9;
  return {none, zstd, coarse};
}

constexpr double kStepBytes = 13e6;
LinkEstimate megabits(double rate) {
  return {rate * 1e6 / 8};
}

TEST(CodecPlanTest, StartsExactAsLongAsNothingHasBeenSent) {
  const CodecPlan plan = plan_codec(candidates(), kStepBytes, 4, {}, 0);
  EXPECT_EQ(plan.choice, 0U);
  EXPECT_THAT(plan.reason, HasSubstr("no traffic"));
}

TEST(CodecPlanTest, AWorldOfOneNeedsNone) {
  EXPECT_EQ(plan_codec(candidates(), kStepBytes, 1, megabits(5), 0).choice, 0U);
}

TEST(CodecPlanTest, SlowLinksTakeTheSmallestFastLinksNone) {
  for (const int ranks : {2, 4, 8}) {
    EXPECT_EQ(plan_codec(candidates(), kStepBytes, ranks, megabits(5), 0).choice, 2U);
    EXPECT_EQ(plan_codec(candidates(), kStepBytes, ranks, megabits(1000), 0).choice, 2U);
    EXPECT_EQ(plan_codec(candidates(), kStepBytes, ranks, megabits(400'000), 2).choice, 0U);
  }
}

TEST(CodecPlanTest, WithinAnErrorBudgetOfNothingASlowLinkTakesTheLosslessCodec) {
  std::vector<CodecCandidate> exact = candidates();
  exact.pop_back();
  EXPECT_EQ(plan_codec(exact, kStepBytes, 4, megabits(100), 0).choice, 1U);
  EXPECT_EQ(plan_codec(exact, kStepBytes, 4, megabits(10'000), 0).choice, 0U);
}

TEST(CodecPlanTest, ASmallGainIsNoReasonToChange) {
  std::vector<CodecCandidate> similar = candidates();
  similar[1].ratio = similar[2].ratio * 1.05;
  const CodecPlan plan = plan_codec(similar, kStepBytes, 4, megabits(25), 2);
  EXPECT_EQ(plan.choice, 2U);
  EXPECT_THAT(plan.reason, HasSubstr("nothing is 10 % better"));
}

TEST(CodecPlanTest, TheCostIsWireAndArithmetic) {
  const CodecCandidate none = candidates()[0];
  // 2 x 3/4 of 8 MB at 1 MB/s, and 8 MB + 12 MB at 30 GB/s.
  EXPECT_NEAR(bucket_seconds(none, 8e6, 4, {1e6}), 12.0 + 20e6 / 30e9, 1e-9);
  EXPECT_NEAR(bucket_seconds(none, 8e6, 2, {1e6}), 8.0 + 16e6 / 30e9, 1e-9);
  EXPECT_EQ(bucket_seconds(none, 8e6, 1, {1e6}), 0);
}

}  // namespace
}  // namespace longhaul

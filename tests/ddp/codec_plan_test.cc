#include "ddp/codec_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul {
namespace {

using ::testing::ElementsAre;
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
  coarse.relative_error = 0.14;
  coarse.encode_bytes_per_second = 10e9;
  coarse.decode_bytes_per_second = 10e9;
  return {none, zstd, coarse};
}

const StepDemand kOneBucket = {{{13e6, 0}}, 0};
const CodecPlan kExact = {{0}, ""};

LinkEstimate megabits(double rate) {
  return {rate * 1e6 / 8};
}

std::vector<size_t> choices(const StepDemand& step, int ranks, double rate,
                            const CodecPlan& current = kExact) {
  return plan_codecs(candidates(), step, ranks, megabits(rate), current).choices;
}

TEST(CodecPlanTest, StartsExactAsLongAsNothingHasBeenSent) {
  const CodecPlan plan = plan_codecs(candidates(), kOneBucket, 4, {}, {});
  EXPECT_THAT(plan.choices, ElementsAre(0));
  EXPECT_THAT(plan.reason, HasSubstr("the rate of the link is unknown"));
}

TEST(CodecPlanTest, AWorldOfOneNeedsNone) {
  EXPECT_THAT(choices(kOneBucket, 1, 5), ElementsAre(0));
}

TEST(CodecPlanTest, SlowLinksTakeTheSmallestFastLinksNone) {
  for (const int ranks : {2, 4, 8}) {
    EXPECT_THAT(choices(kOneBucket, ranks, 5), ElementsAre(2));
    EXPECT_THAT(choices(kOneBucket, ranks, 1000), ElementsAre(2));
    EXPECT_THAT(choices(kOneBucket, ranks, 400'000, {{2}, ""}), ElementsAre(0));
  }
}

TEST(CodecPlanTest, WithinAnErrorBudgetOfNothingASlowLinkTakesTheLosslessCodec) {
  std::vector<CodecCandidate> exact = candidates();
  exact.pop_back();
  const auto choice = [&](double rate) {
    return plan_codecs(exact, kOneBucket, 4, megabits(rate), kExact).choices;
  };
  EXPECT_THAT(choice(100), ElementsAre(1));
  EXPECT_THAT(choice(10'000), ElementsAre(0));
}

TEST(CodecPlanTest, ASmallGainIsNoReasonToChange) {
  std::vector<CodecCandidate> similar = candidates();
  similar[1].ratio = similar[2].ratio * 0.95;
  similar[1].relative_error = similar[2].relative_error / 2;
  const CodecPlan plan = plan_codecs(similar, kOneBucket, 4, megabits(25), {{1}, ""});
  EXPECT_THAT(plan.choices, ElementsAre(1));
  EXPECT_THAT(plan.reason, HasSubstr("nothing is 10 % better"));
}

// 1 MB a candidate takes: none 12 s, coarse 1.26 s at 1 Mbit/s and four ranks.
TEST(CodecPlanTest, BucketsThatHideBehindBackwardStayExact) {
  const StepDemand hidden = {{{1e6, 0}, {1e6, 13}, {1e6, 14}}, 0};
  EXPECT_THAT(choices(hidden, 4, 1), ElementsAre(0, 2, 2));
}

TEST(CodecPlanTest, ABucketThatHoldsUpTheLastOneIsNotHidden) {
  const StepDemand queued = {{{1e6, 0}, {1e6, 2}, {1e6, 4}}, 0};
  EXPECT_THAT(choices(queued, 4, 1), ElementsAre(2, 2, 2));
}

TEST(CodecPlanTest, ExactnessThatCostsNothingIsTaken) {
  const StepDemand hidden = {{{1e6, 0}, {1e6, 13}}, 0};
  EXPECT_THAT(choices(hidden, 4, 1, {{2, 2}, ""}), ElementsAre(0, 2));
}

TEST(CodecPlanTest, WhatTheStepDoesNotNoticeIsNoReasonForAnError) {
  // At 40 Gbit/s: none 4.8 ms, coarse 3.7 ms.
  EXPECT_THAT(choices({{{13e6, 0}}, 0.010}, 4, 40'000), ElementsAre(2));
  EXPECT_THAT(choices({{{13e6, 0}}, 0.170}, 4, 40'000), ElementsAre(0));
  EXPECT_THAT(choices({{{13e6, 0}}, 0.170}, 4, 40'000, {{2}, ""}), ElementsAre(0));
}

TEST(CodecPlanTest, WhatIsExposedIsWhatComesAfterTheLastGradient) {
  const std::vector<CodecCandidate> all = candidates();
  const std::vector<BucketDemand> buckets = {{1e6, 0}, {1e6, 20}};
  EXPECT_NEAR(exposed_seconds(all, buckets, kExact, 4, megabits(1)), 12.0, 0.01);
  const std::vector<BucketDemand> at_once = {{1e6, 0}, {1e6, 0}};
  EXPECT_NEAR(exposed_seconds(all, at_once, kExact, 4, megabits(1)), 24.0, 0.01);
}

TEST(CodecPlanTest, TheReasonCountsBuckets) {
  const StepDemand hidden = {{{1e6, 0}, {1e6, 13}, {1e6, 14}}, 0};
  const CodecPlan plan = plan_codecs(candidates(), hidden, 4, megabits(1), kExact);
  EXPECT_THAT(plan.reason, HasSubstr("for 2 buckets, none for 1 bucket: "));
  EXPECT_THAT(plan.reason, HasSubstr(" at 1 Mbit/s a rank"));
}

TEST(CodecPlanTest, MoreBucketsThanPlannedForTakeWhatTheLastOneTakes) {
  const CodecPlan plan = {{1, 2}, ""};
  EXPECT_EQ(plan.choice(0), 1U);
  EXPECT_EQ(plan.choice(7), 2U);
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

#include "runtime/progress_reporter.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/runtime/fake_coordinator.h"
#include "tests/support/cluster.h"

namespace longhaul {
namespace {

Instant at(double seconds) {
  return Instant(
      std::chrono::duration_cast<Instant::duration>(std::chrono::duration<double>(seconds)));
}

TEST(WaitShare, IsMeasuredOverWholeSteps) {
  WaitShare share;
  EXPECT_EQ(share.update(0, 0, at(10)), 0) << "nothing is known yet";
  EXPECT_DOUBLE_EQ(share.update(4, 1, at(14)), 0.25);
  EXPECT_DOUBLE_EQ(share.update(4, 1.5, at(15)), 0.25) << "in the middle of a step: as before";
  EXPECT_DOUBLE_EQ(share.update(5, 3, at(16)), 1.0);
  EXPECT_DOUBLE_EQ(share.update(6, 3, at(17)), 0.0);
}

TEST(ProgressReporter, TellsTheLatestAndTheLast) {
  const auto reports = testing::run_ranks(1, [](testing::RankContext& context) {
    auto coordinator = std::make_shared<testing::FakeCoordinator>();
    const auto communicator = context.connect();
    communicator->traffic().add_bytes(100, 80);
    {
      ProgressReporter reporter(coordinator, communicator, milliseconds(5));
      EXPECT_TRUE(coordinator->wait_for_reports(2)) << "a sign of life needs no news";
      EXPECT_FALSE(reporter.stop_requested());
      coordinator->ask_to_stop();
      reporter.update({.step = 6, .total_steps = 10, .loss = 1.5, .codec = "zstd"});
      EXPECT_TRUE(coordinator->wait_for_reports(coordinator->reports().size() + 2));
      EXPECT_TRUE(reporter.stop_requested());
      reporter.update({.step = 7, .total_steps = 10});
    }
    const RankProgress last = coordinator->reports().back();
    EXPECT_EQ(last.step, 7);
    EXPECT_EQ(last.total_steps, 10);
    EXPECT_FALSE(last.has_loss);
    EXPECT_EQ(last.bytes_raw, 100u);
    EXPECT_EQ(last.bytes_sent, 80u);
  });
  testing::expect_all_fine(reports);
}

// What the thread that trains is doing, when the worker wants to know.
TEST(ProgressReporter, TellsTheStackOfTheThreadThatTrainsWhenAsked) {
  const auto reports = testing::run_ranks(1, [](testing::RankContext& context) {
    auto coordinator = std::make_shared<testing::FakeCoordinator>();
    const ProgressReporter reporter(coordinator, context.connect(), milliseconds(5));
    coordinator->ask_for_stack();
    std::vector<std::string> stack;
    while (stack.empty()) {
      for (const RankProgress& one : coordinator->reports()) {
        if (!one.stack.empty()) stack = one.stack;
      }
    }
    EXPECT_TRUE(std::any_of(stack.begin(), stack.end(), [](const std::string& frame) {
      return frame.find("TellsTheStackOfTheThreadThatTrainsWhenAsked") != std::string::npos;
    })) << join(stack, "\n");
  });
  testing::expect_all_fine(reports);
}

TEST(ProgressReporter, SaysNothingWhileAnotherWorldSpeaks) {
  const auto reports = testing::run_ranks(1, [](testing::RankContext& context) {
    auto coordinator = std::make_shared<testing::FakeCoordinator>();
    {
      const ProgressReporter mute(coordinator, context.connect(), milliseconds(1),
                                  [] { return false; });
    }
    EXPECT_EQ(coordinator->reports().size(), 0U);
  });
  testing::expect_all_fine(reports);
}

}  // namespace
}  // namespace longhaul

// Ranks that die or stop, as processes of their own: the others learn who it was, in time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <torch/torch.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "longhaul/base/strings.h"
#include "longhaul/collectives/compressed_allreduce.h"
#include "tests/support/cluster.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

// What survivors say: "kind peer seconds-until-the-error text".
std::string confession(const std::function<void()>& doomed) {
  const Instant start = std::chrono::steady_clock::now();
  try {
    doomed();
  } catch (const CollectiveError& error) {
    const double seconds = seconds_between(start, std::chrono::steady_clock::now());
    return str_cat(to_string(error.kind()), "|", error.peer(), "|", seconds, "|", error.what());
  }
  return "no error";
}

void expect_blame(const ProcessReport& report, ErrorKind kind, Rank culprit,
                  double within_seconds) {
  ASSERT_TRUE(report.exited) << "hung";
  EXPECT_EQ(report.exit_code, 0) << report.text;
  const std::vector<std::string> parts = split(report.text, '|');
  ASSERT_GE(parts.size(), 4) << report.text;
  EXPECT_EQ(parts[0], to_string(kind)) << report.text;
  EXPECT_EQ(parts[1], std::to_string(culprit)) << report.text;
  EXPECT_LT(std::stod(parts[2]), within_seconds) << report.text;
}

// How many elements: small ones sit in socket buffers, large ones break in the middle of a message.
class KilledRankTest : public ::testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, KilledRankTest, ::testing::Values(10, 8'000'000));

TEST_P(KilledRankTest, IsNamedByAllOthersOfAPlainAllReduce) {
  const auto reports = run_processes(4, [](RankContext& context) {
    const auto communicator = context.connect();
    return confession([&] {
      for (int step = 0; step < 1000; ++step) {
        if (context.rank == 1 && step == 3) raise(SIGKILL);
        std::vector<at::Tensor> tensors{torch::ones({GetParam()})};
        communicator->process_group()->allreduce(tensors)->wait();
      }
    });
  });
  EXPECT_EQ(reports[1].signal, SIGKILL);
  for (const Rank rank : {0, 2, 3}) expect_blame(reports[rank], ErrorKind::kPeerLost, 1, 30);
}

TEST_P(KilledRankTest, IsNamedByAllOthersOfACompressedAllReduce) {
  const auto reports = run_processes(4, [](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce allreduce(communicator, {*CodecSpec::parse("zstd")});
    return confession([&] {
      for (int step = 0; step < 1000; ++step) {
        const auto future = allreduce.start(torch::ones({GetParam()}), 1, step, 0);
        if (context.rank == 2 && step == 3) raise(SIGKILL);
        future->waitAndThrow();
      }
    });
  });
  EXPECT_EQ(reports[2].signal, SIGKILL);
  for (const Rank rank : {0, 1, 3}) expect_blame(reports[rank], ErrorKind::kPeerLost, 2, 30);
}

TEST(StoppedRankTest, IsNamedWhenTheTimeIsOver) {
  const auto reports =
      run_processes(4,
                    [](RankContext& context) {
                      context.options.timeout = milliseconds(4000);
                      const auto communicator = context.connect();
                      return confession([&] {
                        for (int step = 0; step < 1000; ++step) {
                          if (context.rank == 3 && step == 3) raise(SIGSTOP);
                          std::vector<at::Tensor> tensors{torch::ones({1000})};
                          communicator->process_group()->allreduce(tensors)->wait();
                        }
                      });
                    },
                    {3});
  for (const Rank rank : {0, 1, 2}) expect_blame(reports[rank], ErrorKind::kDeadline, 3, 30);
}

TEST(StoppedRankTest, IsNamedByACompressedAllReduceToo) {
  const auto reports =
      run_processes(3,
                    [](RankContext& context) {
                      context.options.timeout = milliseconds(4000);
                      const auto communicator = context.connect();
                      CompressedAllreduce allreduce(communicator, {*CodecSpec::parse("zstd")});
                      return confession([&] {
                        for (int step = 0; step < 1000; ++step) {
                          if (context.rank == 0 && step == 3) raise(SIGSTOP);
                          allreduce.start(torch::ones({1000}), 1, step, 0)->waitAndThrow();
                        }
                      });
                    },
                    {0});
  for (const Rank rank : {1, 2}) expect_blame(reports[rank], ErrorKind::kDeadline, 0, 30);
}

TEST(CrashedRankTest, ARankThatExitsWithoutAWordIsNamedAndItsGroupCanBeTornDown) {
  const auto reports = run_processes(3, [](RankContext& context) {
    const Instant start = std::chrono::steady_clock::now();
    std::string text;
    {
      const auto communicator = context.connect();
      text = confession([&] {
        for (int step = 0; step < 1000; ++step) {
          if (context.rank == 0 && step == 1) std::_Exit(7);
          std::vector<at::Tensor> tensors{torch::ones({4'000'000})};
          communicator->process_group()->allreduce(tensors)->wait();
        }
      });
    }
    const double seconds = seconds_between(start, std::chrono::steady_clock::now());
    return seconds < 40 ? text : str_cat("tearing down took ", seconds, " s");
  });
  EXPECT_EQ(reports[0].exit_code, 7);
  for (const Rank rank : {1, 2}) expect_blame(reports[rank], ErrorKind::kPeerLost, 0, 30);
}

}  // namespace
}  // namespace longhaul::testing

// What init() gives a rank under the daemons: a stop that it hears, Worlds and programs one after
// the other, and lines that are seen at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using nlohmann::json;

class WorldUnderDaemons : public ::testing::Test {
 protected:
  explicit WorldUnderDaemons(const Cluster::Options& options = {}) : cluster_(options) {}

  ChildProcess& run(const std::string& what, int ranks = 2,
                    const std::vector<std::string>& flags = {}) {
    std::vector<std::string> command = {"run", "--ranks", std::to_string(ranks)};
    command.insert(command.end(), flags.begin(), flags.end());
    command.insert(command.end(), {"--", "/bin/sh", "-c", what});
    return cluster_.longhaul(command);
  }
  static void wait_for(ChildProcess& command, const std::string& text) {
    EXPECT_TRUE(eventually([&] {
      return command.out().find(text) != std::string::npos ||
             command.err().find(text) != std::string::npos;
    })) << "no '"
        << text << "' in\n"
        << command.out() << command.err();
  }
  json status() {
    EXPECT_EQ(cluster_.longhaul_to_end({"status", "last", "-o", "json"}), 0);
    return json::parse(cluster_.last().out());
  }

  const std::string probe_ = program("world_probe");
  Cluster cluster_;
};

TEST_F(WorldUnderDaemons, ARankRunsProgramsAndWorldsOneAfterTheOther) {
  ChildProcess& all = run(str_cat(probe_, " train && ", probe_, " again && ", probe_, " both"), 3);
  EXPECT_EQ(all.wait(), 0) << all.err();
  EXPECT_EQ(status()["state"], "succeeded");
}

// What the World before said, and how it ended, is not held against the next one.
TEST_F(WorldUnderDaemons, AWorldThatFailedAndWasCaughtIsNobodysFailure) {
  ChildProcess& all = run(str_cat("exec ", probe_, " caught"), 3);
  EXPECT_EQ(all.wait(), 0) << all.err();
}

TEST_F(WorldUnderDaemons, StoppedAllRanksLeaveAfterTheSameStepAndEndWell) {
  ChildProcess& training = run(str_cat("exec ", probe_, " agree"), 4, {"--grace", "60"});
  for (int rank = 0; rank < 4; ++rank) wait_for(training, str_cat("[", rank, "] ready"));
  EXPECT_EQ(cluster_.longhaul_to_end({"stop", "last"}), 0);
  training.wait();
  std::set<std::string> steps;
  for (const std::string& line : split(training.out(), '\n')) {
    if (line.ends_with(" agreed")) steps.insert(line.substr(line.find(']')));
  }
  EXPECT_EQ(steps.size(), 1U) << training.out();
  for (const json& rank : status()["ranks"]) EXPECT_EQ(rank["exit_code"], 0) << rank;
}

TEST_F(WorldUnderDaemons, LinesAreSeenWhileTheRankRunsAndWhatItCrashedWith) {
  ChildProcess& crash = run(str_cat("sleep 1000 | ", probe_, " lines"), 1);
  wait_for(crash, "[0] by printf");
  wait_for(crash, "[0] by cout 1");
  cancel(crash);
  crash.wait();
}

}  // namespace
}  // namespace longhaul::testing

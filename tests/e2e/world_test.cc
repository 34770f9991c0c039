// What init() gives a rank under the daemons: a stop that it hears, Worlds and programs one after
// the other, lines that are seen at once, and a hang that is seen, too.
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
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

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
  // Loading libtorch into several ranks takes a busy machine long.
  static void wait_for(ChildProcess& command, const std::string& text) {
    const auto seen = [&] {
      return command.out().find(text) != std::string::npos ||
             command.err().find(text) != std::string::npos;
    };
    for (int i = 0; i < 10 && !eventually(seen); ++i) {
    }
    EXPECT_TRUE(seen()) << "no '" << text << "' in\n" << command.out() << command.err();
  }
  json status() {
    EXPECT_EQ(cluster_.longhaul_to_end({"status", "last", "-o", "json"}), 0);
    return json::parse(cluster_.last().out());
  }

  const std::string probe_ = program("world_probe");
  Cluster cluster_;
};

TEST_F(WorldUnderDaemons, ARankRunsProgramsAndWorldsOneAfterTheOther) {
  ChildProcess& all = run(str_cat(probe_, " both && ", probe_, " again"));
  EXPECT_EQ(all.wait(std::chrono::seconds(240)), 0) << all.err();
  EXPECT_EQ(status()["state"], "succeeded");
}

TEST_F(WorldUnderDaemons, StoppedAllRanksLeaveAfterTheSameStepAndEndWell) {
  ChildProcess& training = run(str_cat("exec ", probe_, " agree"), 4, {"--grace", "60"});
  for (int rank = 0; rank < 4; ++rank) wait_for(training, str_cat("[", rank, "] ready"));
  EXPECT_EQ(cluster_.longhaul_to_end({"stop", "last"}), 0);
  training.wait(std::chrono::seconds(120));
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

class WorldThatHangs : public WorldUnderDaemons {
 protected:
  WorldThatHangs() : WorldUnderDaemons({.master_flags = {"--hang-after", "2"}}) {}
};

TEST_F(WorldThatHangs, RunStatusAndExplainSayWhoIsBehindAndShowItsStack) {
  ChildProcess& stuck = run(str_cat("exec ", probe_, " stuck"), 3);
  wait_for(stuck, "read_a_shard_for_ever");
  EXPECT_THAT(stuck.err(), AllOf(HasSubstr("nothing has moved for "), HasSubstr("rank 1 on w"),
                                 HasSubstr("is behind, at step 7, in no collective"),
                                 HasSubstr("ranks 0 and 2 wait for it in barrier")));
  EXPECT_EQ(cluster_.longhaul_to_end({"status", "last"}), 0);
  EXPECT_THAT(cluster_.last().out(), AllOf(HasSubstr("rank 1 on w"), HasSubstr("stack     #0"),
                                           HasSubstr("read_a_shard_for_ever")));
  EXPECT_EQ(cluster_.longhaul_to_end({"explain", "last"}), 0);
  EXPECT_THAT(cluster_.last().out(),
              AllOf(HasSubstr("rank 1 on w"), HasSubstr("read_a_shard_for_ever")));
  const json hang = status()["hang"];
  EXPECT_EQ(hang["rank"], 1);
  EXPECT_EQ(hang["waiting"], json({0, 2}));
  cancel(stuck);
  stuck.wait();
}

TEST_F(WorldThatHangs, AStoppedRankIsNamedWithItsState) {
  ChildProcess& training = run(str_cat("exec ", probe_, " agree"), 2);
  for (int rank = 0; rank < 2; ++rank) wait_for(training, str_cat("[", rank, "] ready"));
  const auto pid = status()["ranks"][1]["pid"].get<pid_t>();
  ::kill(pid, SIGSTOP);
  wait_for(training, "state T");
  EXPECT_THAT(training.err(), HasSubstr("rank 1 on w"));
  ::kill(pid, SIGCONT);
  wait_for(training, "goes on");
  EXPECT_TRUE(status()["hang"].is_null());
  cancel(training);
  training.wait();
}

}  // namespace
}  // namespace longhaul::testing

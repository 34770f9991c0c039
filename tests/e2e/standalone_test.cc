// `longhaul run --standalone`: the same without daemons.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

class Standalone : public ::testing::Test {
 protected:
  ChildProcess& run(int ranks, std::vector<std::string> script) {
    std::vector<std::string> arguments = {
        "run", "--standalone", "--ranks",     std::to_string(ranks), "--grace",
        "2",   "--",           rank_program()};
    arguments.insert(arguments.end(), script.begin(), script.end());
    return cluster_.longhaul(arguments);
  }

  Cluster cluster_{Cluster::Options{.daemons = false}};
};

TEST_F(Standalone, RanksMeetAndTheirOutputArrives) {
  for (const int ranks : {1, 2, 3, 7}) {
    ChildProcess& all = run(ranks, {"join", "barrier=a", "out=hello", "leave"});
    EXPECT_EQ(all.wait(), 0);
    for (int rank = 0; rank < ranks; ++rank) {
      EXPECT_THAT(all.out(), HasSubstr(str_cat("[", rank, "] hello\n")));
    }
  }
}

TEST_F(Standalone, LeavesNothingOnDisk) {
  EXPECT_EQ(run(2, {"join", "out=x"}).wait(), 0);
  // The folder is also this run's TMPDIR.
  for (const auto& entry : std::filesystem::directory_iterator(cluster_.file("."))) {
    EXPECT_THAT(entry.path().filename(), HasSubstr("command-"));
  }
}

TEST_F(Standalone, TheCulpritsCodePassesThroughAndItIsNamed) {
  ChildProcess& failing = run(3, {"join", "barrier=a", "1/err=boom", "1/exit=9", "barrier=b"});
  EXPECT_EQ(failing.wait(), 9);
  EXPECT_THAT(failing.err(), HasSubstr("culprit     rank 1 "));
  EXPECT_THAT(failing.err(), HasSubstr("| boom\n"));
  EXPECT_EQ(failing.err().find("longhaul logs"), std::string::npos);
}

TEST_F(Standalone, AKilledRankIsNamed) {
  ChildProcess& all = run(2, {"join", "barrier=a", "touch=up", "1/nap", "barrier=b"});
  ::kill(cluster_.wait_for_touch("up", 1), SIGKILL);
  EXPECT_EQ(all.wait(), 137);
  EXPECT_THAT(all.err(), HasSubstr("culprit     rank 1 "));
}

TEST_F(Standalone, AProgramThatIsNotThere) {
  EXPECT_EQ(cluster_.longhaul_to_end({"run", "--standalone", "--", "/no/such/program"}), 127);
  EXPECT_THAT(cluster_.last().err(), HasSubstr("/no/such/program"));
}

TEST_F(Standalone, CtrlCAndSigtermStopTheRanks) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string file = str_cat("up", signal);
    ChildProcess& all = run(2, {"touch=" + file, "nap"});
    const pid_t rank = cluster_.wait_for_touch(file, 0);
    cluster_.wait_for_touch(file, 1);
    all.kill(signal);
    EXPECT_EQ(all.wait(), 128 + signal);
    EXPECT_FALSE(is_running(rank));
  }
}

TEST_F(Standalone, ASecondCtrlCKillsRanksThatDoNotListen) {
  ChildProcess& all = cluster_.longhaul(
      {"run", "--standalone", "--grace", "1000", "--", rank_program(), "deaf", "touch=up", "nap"});
  cluster_.wait_for_touch("up", 0);
  all.kill(SIGINT);
  ASSERT_TRUE(eventually([&] { return all.err().find("stopping job") != std::string::npos; }));
  all.kill(SIGINT);
  EXPECT_EQ(all.wait(), 130);
}

TEST_F(Standalone, KilledItselfItTakesItsRanksAlong) {
  ChildProcess& all = run(2, {"deaf", "touch=up", "nap"});
  const pid_t first = cluster_.wait_for_touch("up", 0);
  const pid_t second = cluster_.wait_for_touch("up", 1);
  all.kill(SIGKILL);
  EXPECT_TRUE(eventually([&] { return !is_running(first) && !is_running(second); }));
}

}  // namespace
}  // namespace longhaul::testing

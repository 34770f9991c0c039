// ps, status, logs, stop, wait, nodes; and what wrong usage gets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/e2e/cluster.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Commands, ADetachedJobIsListedShownStoppedAndWaitedFor) {
  Cluster cluster;
  ASSERT_EQ(cluster.longhaul_to_end({"run", "-d", "--name", "night", "--ranks", "2", "--",
                                     rank_program(), "join", "report=3/9", "touch=up", "nap"}),
            0);
  EXPECT_EQ(cluster.last().out(), "j1\n");
  cluster.wait_for_touch("up", 0);
  cluster.wait_for_touch("up", 1);

  ASSERT_EQ(cluster.longhaul_to_end({"ps"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("\nj1   night  "));
  ASSERT_EQ(cluster.longhaul_to_end({"nodes"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("\nw0 "));
  ASSERT_EQ(cluster.longhaul_to_end({"nodes", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(cluster.last().out())["nodes"][0]["jobs"][0], "j1");
  ASSERT_EQ(cluster.longhaul_to_end({"status", "night", "-o", "json"}), 0);
  const nlohmann::json status = nlohmann::json::parse(cluster.last().out());
  EXPECT_EQ(status["schema"], 1);
  EXPECT_EQ(status["state"], "running");
  EXPECT_EQ(status["progress"]["step"], 3);

  ASSERT_EQ(cluster.longhaul_to_end({"stop", "night"}), 0);
  EXPECT_NE(cluster.longhaul_to_end({"wait", "j1"}), 0);
  ASSERT_EQ(cluster.longhaul_to_end({"ps", "-o", "json"}), 0);
  EXPECT_TRUE(nlohmann::json::parse(cluster.last().out())["jobs"].empty());
  ASSERT_EQ(cluster.longhaul_to_end({"ps", "--all", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(cluster.last().out())["jobs"][0]["state"], "stopped");
}

TEST(Commands, StopByForceEndsRanksThatDoNotListen) {
  Cluster cluster;
  ASSERT_EQ(cluster.longhaul_to_end(
                {"run", "-d", "--grace", "1000", "--", rank_program(), "deaf", "touch=up", "nap"}),
            0);
  cluster.wait_for_touch("up", 0);
  ASSERT_EQ(cluster.longhaul_to_end({"stop", "last", "--force"}), 0);
  EXPECT_NE(cluster.longhaul_to_end({"wait", "last"}), 0);
}

TEST(Commands, WaitPassesTheJobsCodeOn) {
  Cluster cluster;
  ASSERT_EQ(cluster.longhaul_to_end({"run", "-d", "--", "/bin/sh", "-c", "exit 21"}), 0);
  EXPECT_EQ(cluster.longhaul_to_end({"wait", "last"}), 21);
  ASSERT_EQ(cluster.longhaul_to_end({"status", "last"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("culprit     rank 0"));
}

TEST(Commands, LogsOfOneRankAndLogsThatFollow) {
  Cluster cluster;
  ASSERT_EQ(cluster.longhaul_to_end({"run", "-d", "--ranks", "3", "--", rank_program(), "out=first",
                                     "touch=up", "await=go", "out=second"}),
            0);
  for (int rank = 0; rank < 3; ++rank) cluster.wait_for_touch("up", rank);
  ChildProcess& follow = cluster.longhaul({"logs", "last", "-f", "--rank", "0", "--rank", "2"});
  ASSERT_TRUE(eventually([&] { return follow.out().find("[2] first") != std::string::npos; }));
  EXPECT_EQ(follow.out().find("second"), std::string::npos);
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(follow.wait(), 0);
  EXPECT_THAT(follow.out(), HasSubstr("[0] second\n"));
  EXPECT_THAT(follow.out(), HasSubstr("[2] second\n"));
  EXPECT_EQ(follow.out().find("[1]"), std::string::npos);
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last", "--rank", "1"}), 0);
  EXPECT_EQ(cluster.last().out(), "[1] first\n[1] second\n");
}

TEST(Commands, AJobThatIsNotThereIsWrongUsage) {
  Cluster cluster({.workers = 0});
  for (const char* command : {"status", "explain", "logs", "wait", "stop", "results", "events"}) {
    EXPECT_EQ(cluster.longhaul_to_end({command, "j99"}), 64) << command;
    EXPECT_THAT(cluster.last().err(), HasSubstr("j99"));
  }
}

TEST(Usage, AMasterThatIsNotThereIsNamed) {
  Cluster cluster({.daemons = false});
  for (const auto& arguments : std::vector<std::vector<std::string>>{{"ps"},
                                                                     {"nodes"},
                                                                     {"status", "j1"},
                                                                     {"logs", "j1"},
                                                                     {"wait", "j1"},
                                                                     {"stop", "j1"},
                                                                     {"explain", "j1"},
                                                                     {"drain", "w0"},
                                                                     {"events"},
                                                                     {"events", "-f"},
                                                                     {"run", "--", "/bin/true"}}) {
    EXPECT_EQ(cluster.longhaul_to_end(arguments), 69) << arguments[0];
    EXPECT_THAT(cluster.last().err(),
                StartsWith("longhaul: cannot reach the master at 127.0.0.1:1: connection refused\n"
                           "  is longhaul-master running?"));
  }
}

TEST(Usage, TyposGetASuggestionAndExit64) {
  Cluster cluster({.daemons = false});
  EXPECT_EQ(cluster.longhaul_to_end({"statsu", "j1"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("did you mean 'status'?"));
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--rnaks", "4", "--", "./x"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("did you mean '--ranks'?"));
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--rank=4", "./x"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("did you mean '--ranks'?"));
  EXPECT_EQ(cluster.longhaul_to_end({"ps", "--al"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("did you mean '--all'?"));
}

TEST(Usage, WhatIsMissingOrWrongIsSaid) {
  Cluster cluster({.daemons = false});
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"run"},
                                             {"run", "--ranks", "2"},
                                             {"run", "--ranks", "0", "--", "x"},
                                             {"run", "--ranks", "many", "--", "x"},
                                             {"run", "--ranks", "2", "--nproc-per-node", "2", "x"},
                                             {"status"},
                                             {"ps", "-o", "yaml"},
                                             {"logs", "j1", "--rank", "-1"},
                                             {"run", "--standalone", "-d", "--", "x"}}) {
    EXPECT_EQ(cluster.longhaul_to_end(arguments), 64);
    EXPECT_THAT(cluster.last().err(), StartsWith("longhaul"));
  }
}

TEST(Usage, NumbersThatAreNoneAreNamedWithTheirLimits) {
  Cluster cluster({.daemons = false});
  const auto error_of = [&](const std::vector<std::string>& command) {
    ChildProcess& process = cluster.start_in_folder(command);
    EXPECT_EQ(process.wait(), 64) << process.err();
    return process.err();
  };
  EXPECT_THAT(error_of({program("longhaul"), "logs", "j1", "--task", "-1"}),
              AllOf(HasSubstr("--task: '-1' is not a whole number from 0 on"),
                    HasSubstr("Try 'longhaul logs --help'")));
  EXPECT_THAT(error_of({program("longhaul"), "results", "j1", "--from", "-1"}),
              HasSubstr("'-1' is not a whole number from 0 on"));
  EXPECT_THAT(error_of({program("longhaul"), "logs", "j1", "--tail", "-1"}),
              HasSubstr("'-1' is not a whole number from 0 on"));
  EXPECT_THAT(error_of({program("longhaul"), "run", "--max-restarts", "1e9", "--", "true"}),
              HasSubstr("'1e9' is not a whole number from 0 to 1000000"));
  for (const char* number : {"nan", "-nan", "inf", "-1", "1e300"}) {
    EXPECT_THAT(error_of({program("longhaul-master"), "--lease", number}),
                HasSubstr("is not a number"))
        << number;
    EXPECT_THAT(error_of({program("longhaul-worker"), "--master", "127.0.0.1:1", "--master-timeout",
                          number}),
                HasSubstr("is not a number from 0 to"))
        << number;
  }
}

TEST(Usage, HelpAndVersionEachSucceed) {
  Cluster cluster({.daemons = false});
  EXPECT_EQ(cluster.longhaul_to_end({"--version"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("longhaul 0."));
  EXPECT_EQ(cluster.longhaul_to_end({"--help"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("Exit codes:"));
  for (const char* command : {"run", "ps", "status", "logs", "stop", "wait", "nodes", "explain",
                              "drain", "events", "completion"}) {
    EXPECT_EQ(cluster.longhaul_to_end({command, "--help"}), 0);
    EXPECT_THAT(cluster.last().out(), HasSubstr("Examples:")) << command;
  }
}

}  // namespace
}  // namespace longhaul::testing

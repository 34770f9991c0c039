// `longhaul run` through a master and two workers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kSh = "/bin/sh";

TEST(Run, AllRanksRunAndTheirLinesCarryTheirRank) {
  Cluster cluster;
  EXPECT_EQ(
      cluster.longhaul_to_end({"run", "--ranks", "4", "--", rank_program(), "join", "barrier=a",
                               "out=hello", "2/err=oops", "3/part=no end", "leave"}),
      0);
  const std::string out = cluster.last().out();
  for (int rank = 0; rank < 4; ++rank) EXPECT_THAT(out, HasSubstr(str_cat("[", rank, "] hello\n")));
  EXPECT_THAT(out, HasSubstr("[3] no end\n"));
  EXPECT_THAT(cluster.last().err(), HasSubstr("[2] oops\n"));
}

// Ports, pids, paths, keys, JSON: of every program, whatever locale it finds itself in.
TEST(Run, NoNumberOfTheDaemonsDependsOnTheLocale) {
  Cluster cluster({.env = {{"LD_PRELOAD", program("hostile_locale.so")}}});
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--ranks", "4", "--", rank_program(), "join",
                                     "report=10/12", "barrier=a", "leave"}),
            0);
  EXPECT_EQ(cluster.longhaul_to_end({"status", "last", "-o", "json"}), 0);
  const auto job = nlohmann::json::parse(cluster.last().out());
  EXPECT_EQ(job["state"], "succeeded");
  EXPECT_EQ(job["ranks"][3]["progress"]["step"], 10);
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--array", "8-12", "--", kSh, "-c", "echo {}"}), 0);
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last"}), 0);
  EXPECT_EQ(cluster.last().out(), "8\n9\n10\n11\n12\n");
  EXPECT_THAT(cluster.logs(), ::testing::Not(::testing::ContainsRegex("[0-9],[0-9]")));
}

TEST(Run, APlainShellScriptFindsTorchrunsNames) {
  Cluster cluster;
  const std::string script =
      "echo $RANK of $WORLD_SIZE, $LOCAL_RANK of $LOCAL_WORLD_SIZE, $MASTER_ADDR "
      "port ${MASTER_PORT:+set}, $TEAM in $(pwd)";
  EXPECT_EQ(cluster.longhaul_to_end(
                {"run", "--ranks", "3", "--env", "TEAM=blue", "--", kSh, "-c", script}),
            0);
  const std::string here = std::filesystem::canonical(cluster.file("."));
  for (const char* line :
       {"[0] 0 of 3, 0 of 2, 127.0.0.1 port set, blue in ", "[1] 1 of 3, 1 of 2, 127.0.0.1 port",
        "[2] 2 of 3, 0 of 1, 127.0.0.1 port"}) {
    EXPECT_THAT(cluster.last().out(), HasSubstr(line));
  }
  EXPECT_THAT(cluster.last().out(), HasSubstr("blue in " + here + "\n"));
}

TEST(Run, ARelativeProgramIsTakenFromTheCallersFolder) {
  Cluster cluster;
  std::filesystem::create_directory(cluster.file("sub"));
  std::filesystem::copy(kSh, cluster.file("sub/my-sh"));
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--chdir", "sub", "./sub/my-sh", "-c", "echo here"}),
            0);
  EXPECT_EQ(cluster.last().out(), "[0] here\n");
}

TEST(Run, ProgressGetsPlainLinesWhereThereIsNoTerminal) {
  Cluster cluster;
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--ranks", "2", "--", rank_program(), "join",
                                     "report=10/10", "barrier=a", "leave"}),
            0);
  EXPECT_THAT(cluster.last().err(), HasSubstr("step 10/10 100% | loss 2.5 | 2k tok/s | comm 25% | "
                                              "6.00 MB -> 4.00 MB (1.50x)"));
  EXPECT_EQ(cluster.last().err().find('\r'), std::string::npos);
}

TEST(Run, ATerminalGetsOneLiveLineBelowTheOutput) {
  Cluster cluster;
  const std::string command = str_cat(program("longhaul"), " run --ranks 2 -- ", rank_program(),
                                      " join report=5/10 barrier=a out=hello await=go leave");
  ChildProcess& terminal =
      cluster.start_in_folder({"/usr/bin/env", "TERM=xterm", "script", "-qec", command, "typed"});
  ASSERT_TRUE(eventually([&] {
    return terminal.out().find("step 5/10 50% | loss 2.5 | 2k tok/s") != std::string::npos;
  }));
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(terminal.wait(), 0);
  EXPECT_THAT(terminal.out(), HasSubstr("\r\x1b[K"));
  EXPECT_THAT(terminal.out(), HasSubstr("[1] hello\r\n"));
}

TEST(Run, OneFailingRankGivesItsCodeAndItsLastLines) {
  Cluster cluster;
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--ranks", "4", "--", rank_program(), "join",
                                     "barrier=a", "2/err=disk is full", "2/exit=37", "nap"}),
            37);
  const std::string err = cluster.last().err();
  EXPECT_THAT(err, HasSubstr("  culprit     rank 2 (host "));
  EXPECT_THAT(err, HasSubstr("  last lines  | disk is full\n"));
  EXPECT_THAT(err, HasSubstr("  victims     ranks 0, 1 and 3: stopped because of it\n"));
  EXPECT_THAT(err, HasSubstr("longhaul logs "));
  EXPECT_EQ(err.find("failed"), err.rfind("job j1 failed") + 7) << "the report comes once";
}

TEST(Run, LinesThatAreNoTextPassAsTheyAreAndBreakNoReport) {
  Cluster cluster;
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--", rank_program(), "odd", "exit=5"}), 5);
  EXPECT_THAT(cluster.last().err(), HasSubstr("[0] odd \xff\xfe bytes\n"));
  EXPECT_THAT(cluster.last().err(), HasSubstr("| odd \xEF\xBF\xBD\xEF\xBF\xBD bytes\n"));
}

TEST(Run, MuchOutputArrivesWhole) {
  Cluster cluster;
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--ranks", "2", "--", kSh, "-c",
                                     "seq 1 50000 | sed 's/$/ of a long line of output/'"}),
            0);
  const std::string out = cluster.last().out();
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 100'000);
  EXPECT_THAT(out, HasSubstr("[0] 50000 of a long line of output\n"));
  EXPECT_THAT(out, HasSubstr("[1] 50000 of a long line of output\n"));
}

TEST(Run, MoreRanksThanSlotsWaitWithAReasonUntilAWorkerJoins) {
  Cluster cluster({.workers = 1, .slots = 2});
  ChildProcess& run = cluster.longhaul({"run", "--wait-for-nodes", "--ranks", "4", "--",
                                        rank_program(), "join", "barrier=a", "leave"});
  ASSERT_TRUE(
      eventually([&] { return run.err().find("job j1 is pending: ") != std::string::npos; }));
  EXPECT_THAT(run.err(), HasSubstr("2"));
  cluster.add_worker(2);
  EXPECT_EQ(run.wait(), 0);
}

TEST(Run, FailWhenFullIsTryAgainLater) {
  Cluster cluster({.workers = 1, .slots = 2});
  EXPECT_EQ(cluster.longhaul_to_end({"run", "-d", "--", rank_program(), "await=never"}), 0);
  EXPECT_EQ(
      cluster.longhaul_to_end({"run", "--ranks", "2", "--fail-when-full", "--", kSh, "-c", ":"}),
      75);
  EXPECT_THAT(cluster.last().err(), HasSubstr("class       no room"));
}

TEST(Run, WhatCouldNeverFitIsRefusedWithTheLargestThatWould) {
  Cluster cluster({.workers = 2, .slots = 3});
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--ranks", "8", "--", kSh, "-c", ":"}), 64);
  EXPECT_THAT(cluster.last().err(),
              HasSubstr("8 ranks asked, the largest that fits is 6: 2 nodes x 3 slots"));
  EXPECT_EQ(cluster.longhaul_to_end(
                {"map", "--array", "0-9", "--gpus-per-task", "5000", "--", kSh, "-c", ":"}),
            64);
}

// Granted GPUs are names in an environment: no device is needed to see them.
TEST(Run, EachRankSeesItsOwnGpusAlone) {
  Cluster cluster({.workers = 0});
  cluster.add_worker(4, {"--gpus", "4", "--memory", "8G"});
  cluster.wait_for_workers(1);
  EXPECT_EQ(
      cluster.longhaul_to_end({"run", "--ranks", "2", "--gpus-per-rank", "2", "--mem-per-rank",
                               "1G", "--", kSh, "-c", "echo gpus=$CUDA_VISIBLE_DEVICES"}),
      0);
  const std::string out = cluster.last().out();
  EXPECT_THAT(out, HasSubstr("[0] gpus=0,1\n"));
  EXPECT_THAT(out, HasSubstr("[1] gpus=2,3\n"));
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--array", "0-3", "--gpus-per-task", "1", "--", kSh,
                                     "-c", "echo $CUDA_VISIBLE_DEVICES"}),
            0);
  EXPECT_EQ(cluster.longhaul_to_end({"nodes"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("0/4"));
  EXPECT_THAT(cluster.last().out(), HasSubstr("/8.00 GB"));
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--mem-per-rank", "9G", "--", kSh, "-c", ":"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("no node has that"));
}

TEST(Run, AProgramThatIsNotThereNamesTheWorker) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--", "/no/such/program"}), 127);
  EXPECT_THAT(cluster.last().err(), HasSubstr("/no/such/program"));
  EXPECT_THAT(cluster.last().err(), HasSubstr("w0"));
  EXPECT_THAT(cluster.last().err(), HasSubstr("class       launch"));
}

TEST(Run, AProgramThatIsNotExecutableNamesTheWorker) {
  Cluster cluster({.workers = 1, .slots = 1});
  std::ofstream(cluster.file("notes.txt")) << "no program\n";
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--", "./notes.txt"}), 126);
  EXPECT_THAT(cluster.last().err(), HasSubstr("notes.txt"));
  EXPECT_THAT(cluster.last().err(), HasSubstr("w0"));
}

TEST(Run, AFolderThatIsNotThereIsNamed) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_NE(cluster.longhaul_to_end({"run", "--chdir", "/no/such/folder", "--", kSh, "-c", ":"}),
            0);
  EXPECT_THAT(cluster.last().err(), HasSubstr("/no/such/folder"));
}

TEST(Run, JsonAndReportHoldTheWholeStory) {
  Cluster cluster;
  EXPECT_EQ(cluster.longhaul_to_end({"run", "-o", "json", "--report", "report.json", "--ranks", "2",
                                     "--", kSh, "-c", "echo out; exit $((RANK * 4))"}),
            4);
  const nlohmann::json on_stdout = nlohmann::json::parse(cluster.last().out());
  EXPECT_EQ(on_stdout["exit_code"], 4);
  EXPECT_EQ(on_stdout["failure"]["rank"], 1);
  EXPECT_THAT(cluster.last().err(), HasSubstr("[0] out\n"));
  EXPECT_EQ(nlohmann::json::parse(read_text(cluster.file("report.json"))), on_stdout);
}

// --- The user wants out ----------------------------------------------------------------------

TEST(Run, CtrlCLeavesTheJobToRunOn) {
  Cluster cluster;
  ChildProcess& run =
      cluster.longhaul({"run", "--", rank_program(), "touch=up", "await=go", "out=done"});
  const pid_t rank = cluster.wait_for_touch("up", 0);
  run.kill(SIGINT);
  EXPECT_EQ(run.wait(), 130);
  EXPECT_THAT(run.err(), HasSubstr("job j1 runs on: `longhaul logs j1 -f` shows it"));
  EXPECT_TRUE(is_running(rank));
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(cluster.longhaul_to_end({"wait", "last"}), 0);
}

TEST(Run, ASecondCtrlCStopsTheJob) {
  Cluster cluster;
  ChildProcess& run =
      cluster.longhaul({"run", "--ranks", "4", "--", rank_program(), "join", "touch=up", "nap"});
  for (int rank = 0; rank < 4; ++rank) cluster.wait_for_touch("up", rank);
  cancel(run);
  EXPECT_EQ(run.wait(), 130);
  EXPECT_THAT(run.err(), HasSubstr("longhaul: stopping job j1"));
  EXPECT_THAT(run.err(), HasSubstr("longhaul: job j1 stopped"));
}

TEST(Run, SigtermStopsTheJob) {
  Cluster cluster;
  ChildProcess& run =
      cluster.longhaul({"run", "--ranks", "2", "--", rank_program(), "touch=up", "nap"});
  for (int rank = 0; rank < 2; ++rank) cluster.wait_for_touch("up", rank);
  run.kill(SIGTERM);
  EXPECT_EQ(run.wait(), 143);
}

TEST(Run, AThirdCtrlCKillsRanksThatDoNotListen) {
  Cluster cluster;
  ChildProcess& run = cluster.longhaul(
      {"run", "--ranks", "2", "--grace", "1000", "--", rank_program(), "deaf", "touch=up", "nap"});
  for (int rank = 0; rank < 2; ++rank) cluster.wait_for_touch("up", rank);
  cancel(run);
  ASSERT_TRUE(eventually([&] { return run.err().find("stopping job") != std::string::npos; }));
  run.kill(SIGINT);
  EXPECT_EQ(run.wait(), 130);
}

TEST(Run, CtrlCWhileTheJobWaitsForRoom) {
  Cluster cluster({.workers = 1, .slots = 1});
  ChildProcess& run =
      cluster.longhaul({"run", "--wait-for-nodes", "--ranks", "2", "--", kSh, "-c", ":"});
  ASSERT_TRUE(eventually([&] { return run.err().find(" is pending: ") != std::string::npos; }));
  cancel(run);
  EXPECT_EQ(run.wait(), 130);
}

TEST(Run, ACommandLineThatIsKilledLeavesTheJobToTheMaster) {
  Cluster cluster;
  ChildProcess& run =
      cluster.longhaul({"run", "--", rank_program(), "touch=up", "await=go", "out=done"});
  cluster.wait_for_touch("up", 0);
  run.kill(SIGKILL);
  EXPECT_EQ(run.wait(), 137);
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(cluster.longhaul_to_end({"wait", "last"}), 0);
  EXPECT_EQ(cluster.longhaul_to_end({"logs", "last"}), 0);
  EXPECT_EQ(cluster.last().out(), "[0] done\n");
}

}  // namespace
}  // namespace longhaul::testing

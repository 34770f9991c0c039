// Things are killed, stopped and left waiting: no hang, the right culprit, nothing left running
// (which the cluster checks when it goes).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>

#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/support/processes.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

// Four ranks over two workers: 0 and 1 on w0, 2 and 3 on w1.
// `patience`: seconds for which a lost master is waited for.
ChildProcess& run_four(Cluster& cluster, std::vector<std::string> script,
                       const std::string& patience = "60") {
  std::vector<std::string> arguments = {
      "run", "--ranks", "4", "--grace", "2", "--master-timeout", patience, "--", rank_program()};
  arguments.insert(arguments.end(), script.begin(), script.end());
  return cluster.longhaul(arguments);
}

int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

std::vector<pid_t> wait_for_all(Cluster& cluster, const std::string& file) {
  std::vector<pid_t> pids;
  pids.reserve(4);
  for (int rank = 0; rank < 4; ++rank) pids.push_back(cluster.wait_for_touch(file, rank));
  return pids;
}

// --- A rank is killed --------------------------------------------------------------------------

TEST(KilledRank, BeforeItJoined) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"touch=up", "2/nap", "join", "barrier=a", "leave"});
  ::kill(wait_for_all(cluster, "up")[2], SIGKILL);
  EXPECT_EQ(run.wait(), 137);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 2 "));
  EXPECT_THAT(run.err(), HasSubstr("class       kill -9, SIGKILL"));
}

TEST(KilledRank, WhileTheOthersWaitForIt) {
  Cluster cluster;
  ChildProcess& run =
      run_four(cluster, {"join", "barrier=a", "touch=up", "3/nap", "barrier=b", "leave"});
  ::kill(wait_for_all(cluster, "up")[3], SIGKILL);
  EXPECT_EQ(run.wait(), 137);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 3 "));
}

TEST(KilledRank, TheFirstRank) {
  Cluster cluster;
  ChildProcess& run =
      run_four(cluster, {"join", "barrier=a", "touch=up", "0/nap", "barrier=b", "leave"});
  ::kill(wait_for_all(cluster, "up")[0], SIGKILL);
  EXPECT_EQ(run.wait(), 137);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 0 "));
}

TEST(KilledRank, AfterItSaidThatItsWorkIsDone) {
  Cluster cluster;
  ChildProcess& run =
      run_four(cluster, {"join", "barrier=a", "leave", "touch=up", "1/nap", "exit=0"});
  ::kill(cluster.wait_for_touch("up", 1), SIGKILL);
  EXPECT_EQ(run.wait(), 137);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 1 "));
}

TEST(KilledRank, VictimsThatSpeakFirstAreNotBlamed) {
  Cluster cluster;
  // Rank 0 blames its live neighbour 1, as Gloo does, and dies of it at once.
  ChildProcess& run = run_four(cluster, {"join", "barrier=a", "touch=up", "2/nap", "await=died",
                                         "0/fault=1", "0/exit=1", "nap"});
  const pid_t killed = wait_for_all(cluster, "up")[2];
  ::kill(killed, SIGKILL);
  std::ofstream(cluster.file("died")) << "\n";
  EXPECT_EQ(run.wait(), 137);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 2 "));
}

TEST(KilledRank, ACrashIsASignalToo) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"join", "barrier=a", "1/signal=11", "nap"});
  EXPECT_EQ(run.wait(), 139);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 1 "));
  EXPECT_THAT(run.err(), HasSubstr("SIGSEGV"));
  EXPECT_THAT(run.err(), HasSubstr("  backtrace   #0 0x"));
  EXPECT_THAT(run.err(), HasSubstr("RankProgram::verbs_"));
}

// --- Programs that say themselves what is wrong ------------------------------------------------

TEST(FailedProgram, APythonExceptionIsTheMessage) {
  Cluster cluster({.workers = 1, .slots = 2});
  const std::string script =
      "import os\nif os.environ['RANK'] == '1': raise ValueError('bad shard')";
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--ranks", "2", "--", "python3", "-c", script}), 1);
  EXPECT_THAT(cluster.last().err(), HasSubstr("failed: ValueError: bad shard\n"));
  EXPECT_THAT(cluster.last().err(), HasSubstr("culprit     rank 1 "));
  EXPECT_THAT(cluster.last().err(), HasSubstr("class       exception, exit code 1"));
}

TEST(FailedProgram, ACrashInPythonHasABacktrace) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_EQ(
      cluster.longhaul_to_end({"run", "--", "python3", "-c", "import ctypes\nctypes.string_at(0)"}),
      139);
  EXPECT_THAT(cluster.last().err(), HasSubstr("class       signal, SIGSEGV"));
  EXPECT_THAT(cluster.last().err(), HasSubstr("  backtrace   File \""));
}

TEST(FailedProgram, ALibraryThatIsMissingIsNamed) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--", program("longhaul-needs-library")}), 127);
  EXPECT_THAT(cluster.last().err(), HasSubstr("missing library liblonghaul-missing.so"));
  EXPECT_THAT(cluster.last().err(), HasSubstr("class       launch, exit code 127"));
}

TEST(FailedProgram, OneThatMayNotBeExecutedExitsWith126) {
  Cluster cluster({.workers = 1, .slots = 1});
  std::ofstream(cluster.file("train")) << "no program\n";
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--", cluster.file("train")}), 126);
  EXPECT_THAT(cluster.last().err(), HasSubstr("not executable"));
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--", cluster.file("nothing")}), 127);
}

// --- Ranks that do not do their part -----------------------------------------------------------

TEST(LazyRank, ExitsZeroWhileOthersWait) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"join", "barrier=a", "1/exit=0", "barrier=b", "leave"});
  const std::optional<int> code = run.wait();
  ASSERT_TRUE(code);
  EXPECT_NE(*code, 0);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 1 "));
  EXPECT_THAT(run.err(), HasSubstr("class       early exit"));
}

TEST(LazyRank, NeverJoins) {
  Cluster cluster;
  ChildProcess& run = cluster.longhaul({"run", "--ranks", "4", "--grace", "2", "--join-timeout",
                                        "1", "--", rank_program(), "3/nap", "join", "barrier=a"});
  const std::optional<int> code = run.wait();
  ASSERT_TRUE(code);
  EXPECT_NE(*code, 0);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 3 "));
  EXPECT_THAT(run.err(), HasSubstr("class       join timeout"));
}

TEST(LazyRank, IsStoppedWhileOthersGiveUpOnIt) {
  Cluster cluster;
  ChildProcess& run = run_four(
      cluster, {"join", "barrier=a", "touch=up", "2/nap", "await=stopped", "fault=2", "exit=1"});
  const pid_t stopped = wait_for_all(cluster, "up")[2];
  ::kill(stopped, SIGSTOP);
  ASSERT_TRUE(eventually([&] { return process_state(stopped) == 'T'; }));
  std::ofstream(cluster.file("stopped")) << "\n";
  const std::optional<int> code = run.wait();
  ASSERT_TRUE(code);
  EXPECT_NE(*code, 0);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 2 "));
  EXPECT_THAT(run.err(), HasSubstr("class       hang"));
}

// --- A worker is killed ------------------------------------------------------------------------

void expect_worker_is_the_culprit(ChildProcess& run, const std::string& worker) {
  const std::optional<int> code = run.wait();
  ASSERT_TRUE(code);
  EXPECT_NE(*code, 0);
  EXPECT_THAT(run.err(), HasSubstr("culprit     worker " + worker));
  EXPECT_THAT(run.err(), HasSubstr("class       worker lost"));
}

TEST(KilledWorker, BeforeItsRanksJoined) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"touch=up", "nap"});
  wait_for_all(cluster, "up");
  cluster.worker(1).kill(SIGKILL);
  expect_worker_is_the_culprit(run, "w1");
}

TEST(KilledWorker, WhileRanksWaitForEachOther) {
  Cluster cluster;
  ChildProcess& run =
      run_four(cluster, {"join", "barrier=a", "touch=up", "0/nap", "barrier=b", "leave"});
  wait_for_all(cluster, "up");
  cluster.worker(0).kill(SIGKILL);
  expect_worker_is_the_culprit(run, "w0");
}

TEST(KilledWorker, AfterItsRanksSaidThatTheirWorkIsDone) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"join", "barrier=a", "leave", "touch=up", "nap"});
  wait_for_all(cluster, "up");
  cluster.worker(1).kill(SIGKILL);
  expect_worker_is_the_culprit(run, "w1");
}

TEST(KilledWorker, ItsRanksDieWithIt) {
  Cluster cluster({.workers = 1, .slots = 4});
  run_four(cluster, {"deaf", "touch=up", "nap"});
  const std::vector<pid_t> ranks = wait_for_all(cluster, "up");
  cluster.worker(0).kill(SIGKILL);
  for (const pid_t rank : ranks) EXPECT_TRUE(eventually([&] { return !is_running(rank); }));
}

TEST(KilledWorker, AStoppedOneIsLostWhenItsLeaseHasRunOut) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"join", "barrier=a", "touch=up", "nap"});
  wait_for_all(cluster, "up");
  cluster.worker(1).kill(SIGSTOP);
  expect_worker_is_the_culprit(run, "w1");
}

TEST(KilledWorker, OneThatIsToldToStopTakesItsJobsAlong) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"join", "barrier=a", "touch=up", "nap"});
  wait_for_all(cluster, "up");
  cluster.worker(1).kill(SIGTERM);
  EXPECT_EQ(cluster.worker(1).wait(), 0);
  ASSERT_TRUE(run.wait());
  EXPECT_THAT(run.err(), HasSubstr("culprit     worker w1"));
  EXPECT_THAT(run.err(), HasSubstr("class       preempted"));
}

// --- The master is killed ----------------------------------------------------------------------

void expect_lost_master(Cluster& cluster, ChildProcess& run) {
  EXPECT_EQ(run.wait(), 69);
  EXPECT_THAT(run.err(), HasSubstr("longhaul: lost the master at " + cluster.address()));
  EXPECT_THAT(run.err(), HasSubstr("keep running under their workers"));
}

TEST(KilledMaster, WhileTheJobWaitsForRoom) {
  Cluster cluster({.workers = 1, .slots = 1});
  ChildProcess& run = cluster.longhaul({"run", "--master-timeout", "3", "--wait-for-nodes",
                                        "--ranks", "4", "--", rank_program(), "nap"});
  ASSERT_TRUE(eventually([&] { return run.err().find(" is pending: ") != std::string::npos; }));
  cluster.master().kill(SIGKILL);
  EXPECT_EQ(run.wait(), 69);
}

TEST(KilledMaster, BeforeTheRanksJoined) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"touch=up", "nap"}, "3");
  wait_for_all(cluster, "up");
  cluster.master().kill(SIGKILL);
  expect_lost_master(cluster, run);
}

TEST(KilledMaster, WhileTheyRun) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"join", "barrier=a", "touch=up", "nap"}, "3");
  const std::vector<pid_t> ranks = wait_for_all(cluster, "up");
  cluster.master().kill(SIGKILL);
  expect_lost_master(cluster, run);
  for (const pid_t rank : ranks) EXPECT_TRUE(is_running(rank)) << "a dead master kills no rank";
}

TEST(KilledMaster, AnotherOneInItsPlaceDoesNotKnowTheJob) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"join", "barrier=a", "touch=up", "nap"});
  const std::vector<pid_t> ranks = wait_for_all(cluster, "up");
  cluster.restart_master(Cluster::Memory::kForgotten);
  EXPECT_EQ(run.wait(), 69);
  EXPECT_THAT(run.err(), HasSubstr("came back without job j1"));
  // Its workers find out too, and stop what nobody knows.
  for (const pid_t rank : ranks) EXPECT_TRUE(eventually([&] { return !is_running(rank); }));
}

// --- The master is killed and started again ----------------------------------------------------

TEST(RestartedMaster, TheJobGoesOnAndEndsWithItsOwnCode) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"join", "barrier=a", "out=before", "touch=up", "await=go",
                                         "out=after", "barrier=b", "3/exit=7"});
  const std::vector<pid_t> ranks = wait_for_all(cluster, "up");
  cluster.restart_master();
  for (const pid_t rank : ranks) EXPECT_TRUE(is_running(rank));
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(run.wait(), 7);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 3 "));
  // Every line once, whoever saw it first.
  for (int rank = 0; rank < 4; ++rank) {
    for (const char* word : {"before", "after"}) {
      EXPECT_EQ(count_of(run.out(), str_cat("[", rank, "] ", word, "\n")), 1) << rank << word;
    }
  }
}

TEST(RestartedMaster, RanksThatEndedMeanwhileAreReportedWithTheirTrueCode) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"join", "barrier=a", "touch=up", "await=go",
                                         "2/err=last words", "2/exit=41", "nap"});
  const std::vector<pid_t> ranks = wait_for_all(cluster, "up");
  cluster.master().kill(SIGKILL);
  cluster.master().wait();
  std::ofstream(cluster.file("go")) << "\n";
  ASSERT_TRUE(eventually([&] { return !is_running(ranks[2]); }));
  cluster.restart_master();
  EXPECT_EQ(run.wait(), 41);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 2 "));
  EXPECT_THAT(run.err(), HasSubstr("last words"));
}

TEST(RestartedMaster, InTheMiddleOfTheRendezvous) {
  Cluster cluster;
  ChildProcess& run =
      run_four(cluster, {"join", "0/touch=up", "1/touch=up", "2/touch=up", "3/touch=up",
                         "3/await=go", "barrier=a", "barrier=b", "leave"});
  wait_for_all(cluster, "up");
  cluster.restart_master();
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(run.wait(), 0);
}

TEST(RestartedMaster, AWaitingJobStillWaitsAndThenRuns) {
  Cluster cluster({.workers = 1, .slots = 2});
  ChildProcess& run = cluster.longhaul(
      {"run", "--wait-for-nodes", "--ranks", "4", "--", rank_program(), "out=at last"});
  ASSERT_TRUE(eventually([&] { return run.err().find(" is pending: ") != std::string::npos; }));
  cluster.restart_master();
  cluster.add_worker(2);
  EXPECT_EQ(run.wait(), 0);
  EXPECT_EQ(count_of(run.out(), "at last"), 4);
}

TEST(RestartedMaster, KilledAgainAndAgain) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"touch=begun", "join", "barrier=a", "touch=up", "await=go",
                                         "barrier=b", "barrier=c", "1/exit=5"});
  wait_for_all(cluster, "begun");
  for (int round = 0; round < 6; ++round) cluster.restart_master();
  wait_for_all(cluster, "up");
  std::ofstream(cluster.file("go")) << "\n";
  for (int round = 0; round < 3; ++round) cluster.restart_master();
  EXPECT_EQ(run.wait(), 5);
}

TEST(RestartedMaster, EndedJobsAreStillThereWithTheirOutput) {
  Cluster cluster;
  EXPECT_EQ(cluster.longhaul_to_end(
                {"run", "--name", "first", "--", rank_program(), "out=hello", "exit=3"}),
            3);
  cluster.restart_master();
  EXPECT_EQ(cluster.longhaul_to_end({"wait", "first"}), 3);
  EXPECT_EQ(cluster.longhaul_to_end({"logs", "first"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("hello"));
}

TEST(KilledMaster, CtrlCWhileItIsGoneEndsAtOnce) {
  Cluster cluster;
  ChildProcess& run = run_four(cluster, {"touch=up", "nap"});
  wait_for_all(cluster, "up");
  cluster.master().kill(SIGKILL);
  ASSERT_TRUE(eventually([&] { return run.err().find("trying again") != std::string::npos; }));
  run.kill(SIGINT);
  EXPECT_EQ(run.wait(), 69);
}

// --- The gang is formed again ------------------------------------------------------------------

ChildProcess& run_again(Cluster& cluster, std::vector<std::string> flags,
                        const std::vector<std::string>& script) {
  std::vector<std::string> arguments = {"run", "--grace", "2"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  arguments.insert(arguments.end(), {"--", rank_program()});
  arguments.insert(arguments.end(), script.begin(), script.end());
  return cluster.longhaul(arguments);
}

TEST(RestartedGang, AfterARankFailed) {
  Cluster cluster;
  ChildProcess& run =
      run_again(cluster, {"--ranks", "4", "--max-restarts", "1"},
                {"join", "barrier=a", "out=here", "2/once=failed", "barrier=b", "leave"});
  EXPECT_EQ(run.wait(), 0);
  EXPECT_THAT(run.err(), HasSubstr("rank 2 on w1"));
  EXPECT_THAT(run.err(), HasSubstr("forming the gang again, attempt 2"));
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(count_of(run.out(), str_cat("[", rank, "] here\n")), 2);
  }
}

TEST(RestartedGang, UntilTheBudgetIsSpent) {
  Cluster cluster;
  ChildProcess& run = run_again(cluster, {"--ranks", "2", "--max-restarts", "2"},
                                {"join", "barrier=a", "1/exit=9", "nap"});
  EXPECT_EQ(run.wait(), 9);
  EXPECT_THAT(run.err(), HasSubstr("attempt 3"));
  EXPECT_EQ(cluster.longhaul_to_end({"status", "last"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("2 of 2 restarts after failures"));
}

TEST(RestartedGang, AfterALostWorkerOnThoseThatAreLeft) {
  Cluster cluster({.workers = 3, .slots = 2});
  ChildProcess& run =
      run_again(cluster, {"--nproc-per-node", "2", "--nnodes", "2:3", "--max-node-restarts", "1"},
                {"join", "barrier=a", "touch=up", "await=go", "barrier=b", "out=done", "leave"});
  for (int rank = 0; rank < 6; ++rank) cluster.wait_for_touch("up", rank);
  cluster.worker(1).kill(SIGKILL);
  ASSERT_TRUE(eventually([&] { return run.err().find("attempt 2") != std::string::npos; }));
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(run.wait(), 0);
  EXPECT_EQ(count_of(run.out(), "] done\n"), 4);
}

TEST(RestartedGang, TheTimeLimitEndsItWith124) {
  Cluster cluster;
  ChildProcess& run =
      run_again(cluster, {"--ranks", "2", "--time-limit", "1", "--max-restarts", "3"}, {"nap"});
  EXPECT_EQ(run.wait(), 124);
  EXPECT_THAT(run.err(), HasSubstr("time limit of"));
}

// --- The master's disk is full -----------------------------------------------------------------

// Until not one page more fits.
void fill(const std::string& file) {
  std::ofstream filler(file, std::ios::binary);
  while (filler << std::string(4096, 'x') << std::flush) {
  }
}

TEST(FullDisk, RunningJobsGoOnNewOnesAreRefusedAndNothingIsLost) {
  TempDir disk;
  if (::mount("tmpfs", disk.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "mounting a tmpfs needs root";
  }
  {
    Cluster cluster({.workers = 1, .slots = 2, .master_state = disk.file("state")});
    ChildProcess& run = cluster.longhaul({"run", "--ranks", "2", "--", rank_program(), "join",
                                          "barrier=a", "touch=up", "await=go", "1/exit=6"});
    for (int rank = 0; rank < 2; ++rank) cluster.wait_for_touch("up", rank);
    fill(disk.file("filler"));
    // The end of the job cannot be written down, so nobody is told of it yet.
    std::ofstream(cluster.file("go")) << "\n";
    ASSERT_TRUE(
        eventually([&] { return cluster.logs().find("takes nothing") != std::string::npos; }));
    EXPECT_EQ(cluster.longhaul_to_end({"ps"}), 0) << "whoever only looks is answered";
    EXPECT_EQ(cluster.longhaul_to_end({"run", "--", "true"}), 75);
    EXPECT_THAT(cluster.last().err(), HasSubstr("takes no new jobs"));
    EXPECT_EQ(cluster.longhaul_to_end({"drain", "w0"}), 75);
    EXPECT_EQ(cluster.longhaul_to_end({"events"}), 0) << "whoever only looks is answered";
    EXPECT_FALSE(run.wait(std::chrono::milliseconds(300)));
    std::filesystem::remove(disk.file("filler"));
    EXPECT_EQ(run.wait(), 6);
    EXPECT_EQ(cluster.longhaul_to_end({"run", "--", "true"}), 0);
  }
  ::umount(disk.path().c_str());
}

TEST(FullDisk, OutputThatFoundNoRoomIsThereAfterTheMasterWasKilled) {
  TempDir disk;
  if (::mount("tmpfs", disk.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "mounting a tmpfs needs root";
  }
  {
    Cluster cluster({.workers = 1, .slots = 1, .lease = "20", .master_state = disk.file("state")});
    ChildProcess& run =
        cluster.longhaul({"run", "--", rank_program(), "out=early", "touch=up", "await=go",
                          "out=" + std::string(9000, 'x'), "await=end", "out=late"});
    cluster.wait_for_touch("up", 0);
    ASSERT_TRUE(eventually([&] { return run.out() == "[0] early\n"; }));
    fill(disk.file("filler"));
    std::ofstream(cluster.file("go")) << "\n";
    ASSERT_TRUE(
        eventually([&] { return cluster.logs().find("waiting for room") != std::string::npos; }));
    EXPECT_EQ(cluster.longhaul_to_end({"run", "--", "true"}), 75);
    cluster.master().kill(SIGKILL);
    std::filesystem::remove(disk.file("filler"));
    cluster.restart_master();
    std::ofstream(cluster.file("end")) << "\n";
    EXPECT_EQ(run.wait(), 0);
    const std::string all = "[0] early\n[0] " + std::string(9000, 'x') + "\n[0] late\n";
    EXPECT_EQ(run.out(), all);
    EXPECT_EQ(cluster.longhaul_to_end({"logs", "last"}), 0);
    EXPECT_EQ(cluster.last().out(), all);
  }
  ::umount(disk.path().c_str());
}

}  // namespace
}  // namespace longhaul::testing

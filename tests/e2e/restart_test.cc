// A worker daemon is killed and started again while its ranks run: what a user sees of it, which is
// nothing, and what an operator who wants a clean host gets. Or it comes back after its lease: what
// its ranks have printed meanwhile is kept. That nothing is left running is checked when the
// cluster goes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

const Cluster::Options kOneWorker = {.workers = 1, .slots = 4, .lease = "10", .keep_state = true};

// Numbers lines from 1 on until the file `enough` is there; the last line says how many.
constexpr const char* kCounting =
    "i=0; while [ ! -e enough ]; do i=$((i+1)); echo line $i; sleep 0.002; done; "
    "echo sum $i; echo $$ > pid.$RANK; exit ${CODE:-0}";

// What `run` printed of one rank, without the "[rank] " before each line.
std::vector<std::string> lines_of(const std::string& out, int rank) {
  const std::string prefix = str_cat("[", rank, "] ");
  std::istringstream text(out);
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with(prefix)) lines.push_back(line.substr(prefix.size()));
  }
  return lines;
}

void expect_every_line_once_and_in_order(const std::vector<std::string>& lines) {
  ASSERT_GT(lines.size(), 1U);
  for (size_t i = 0; i + 1 < lines.size(); ++i) ASSERT_EQ(lines[i], str_cat("line ", i + 1));
  EXPECT_EQ(lines.back(), str_cat("sum ", lines.size() - 1));
}

std::vector<pid_t> wait_for_four(Cluster& cluster, const std::string& file) {
  std::vector<pid_t> pids;
  pids.reserve(4);
  for (int rank = 0; rank < 4; ++rank) pids.push_back(cluster.wait_for_touch(file, rank));
  return pids;
}

void wait_for_line(ChildProcess& run, size_t number) {
  ASSERT_TRUE(eventually([&] { return lines_of(run.out(), 0).size() >= number; })) << run.err();
}

TEST(RestartedWorker, ItsRanksAreNotDisturbedAndNoLineIsLost) {
  Cluster cluster(kOneWorker);
  ChildProcess& run = cluster.longhaul({"run", "--ranks", "2", "--", "sh", "-c", kCounting});
  for (const size_t number : {20U, 60U}) {
    wait_for_line(run, number);
    cluster.restart_worker(0);
  }
  wait_for_line(run, lines_of(run.out(), 0).size() + 50);
  std::ofstream(cluster.file("enough")) << "\n";
  EXPECT_EQ(run.wait(), 0) << run.err();
  for (const int rank : {0, 1}) {
    expect_every_line_once_and_in_order(lines_of(run.out(), rank));
  }
}

TEST(RestartedWorker, RanksThatEndWhileItIsGoneAreToldWithTheirCode) {
  Cluster cluster(kOneWorker);
  ChildProcess& run =
      cluster.longhaul({"run", "--ranks", "1", "--env", "CODE=7", "--", "sh", "-c", kCounting});
  wait_for_line(run, 20);
  cluster.kill_worker(0);
  std::ofstream(cluster.file("enough")) << "\n";
  ASSERT_TRUE(eventually([&] { return !read_text(cluster.file("pid.0")).empty(); }));
  const pid_t rank = std::stoi(read_text(cluster.file("pid.0")));
  ASSERT_TRUE(eventually([&] { return !is_running(rank); }));
  cluster.start_worker(0);
  EXPECT_EQ(run.wait(), 7) << run.err();
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 0 "));
  expect_every_line_once_and_in_order(lines_of(run.out(), 0));
}

TEST(RestartedWorker, RanksMeetAcrossIt) {
  Cluster cluster({.workers = 2, .slots = 2, .lease = "10", .keep_state = true});
  ChildProcess& run =
      cluster.longhaul({"run", "--ranks", "4", "--", rank_program(), "join", "barrier=a",
                        "touch=up", "0/await=back", "barrier=b", "report=3/3", "leave"});
  const std::vector<pid_t> pids = wait_for_four(cluster, "up");
  // Ranks 2 and 3 wait in the store, through this worker, when it is killed.
  cluster.restart_worker(1);
  for (const pid_t pid : pids) EXPECT_TRUE(is_running(pid));
  std::ofstream(cluster.file("back")) << "\n";
  EXPECT_EQ(run.wait(), 0) << run.err();
}

// --- An upgrade: SIGUSR2 (docs/operations.md)
// ------------------------------------------------------

// As an operator does it: the old one is told to make room and is awaited, the new one started.
void upgrade(Cluster& cluster) {
  cluster.worker(0).kill(SIGUSR2);
  EXPECT_EQ(cluster.worker(0).wait(), 0) << cluster.logs();
  cluster.start_worker(0);
  cluster.wait_for_workers(1);
}

TEST(UpgradedWorker, DisturbsNoGangAndLosesNoLine) {
  Cluster cluster(kOneWorker);
  ChildProcess& run = cluster.longhaul({"run", "--ranks", "2", "--", "sh", "-c", kCounting});
  for (const size_t number : {20U, 60U}) {
    wait_for_line(run, number);
    upgrade(cluster);
  }
  std::ofstream(cluster.file("enough")) << "\n";
  EXPECT_EQ(run.wait(), 0) << run.err() << cluster.logs();
  for (const int rank : {0, 1}) expect_every_line_once_and_in_order(lines_of(run.out(), rank));
  EXPECT_EQ(cluster.longhaul_to_end({"status", "last", "-o", "json"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("\"generation\":1,"));
}

TEST(UpgradedWorker, LetsItsTasksEndAndRunsNoneTwice) {
  Cluster cluster(kOneWorker);
  ChildProcess& map = cluster.longhaul(
      {"map", "--array", "0-19", "--batch", "3", "--max-preemptions", "1", "--max-attempts", "1",
       "--", "sh", "-c",
       "echo {} >> begun; echo $$ > up.{}; [ {} != 0 ] || while [ ! -e go ]; do sleep 0.02; done; "
       "echo {}"});
  cluster.wait_for_touch("up", 0);
  cluster.worker(0).kill(SIGUSR2);
  ASSERT_TRUE(eventually(
      [&] { return cluster.logs().find("makes room for a successor") != std::string::npos; }));
  EXPECT_FALSE(cluster.worker(0).wait(std::chrono::milliseconds(0))) << "a task runs";
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(cluster.worker(0).wait(), 0) << cluster.logs();
  cluster.start_worker(0);
  EXPECT_EQ(map.wait(), 0) << map.err() << cluster.logs();
  std::istringstream begun(read_text(cluster.file("begun")));
  std::multiset<int> tasks;
  for (int task = 0; begun >> task;) tasks.insert(task);
  EXPECT_EQ(tasks.size(), 20U) << "each ran once";
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last"}), 0);
  const std::string results = cluster.last().out();
  EXPECT_EQ(std::count(results.begin(), results.end(), '\n'), 20);
}

TEST(UpgradedWorker, TheSecondSignalDoesNotWaitForTasks) {
  Cluster cluster(kOneWorker);
  ChildProcess& map = cluster.longhaul(
      {"map", "--array", "0", "--", "sh", "-c",
       "echo $$ > up.$LONGHAUL_ATTEMPT; while [ ! -e go ]; do sleep 0.02; done; echo {}"});
  cluster.wait_for_touch("up", 1);
  cluster.worker(0).kill(SIGUSR2);
  ASSERT_TRUE(eventually(
      [&] { return cluster.logs().find("makes room for a successor") != std::string::npos; }));
  upgrade(cluster);
  cluster.wait_for_touch("up", 2);
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(map.wait(), 0) << map.err() << cluster.logs();
}

TEST(UpgradedWorker, GoesOnWhereNobodyCouldTakeOver) {
  Cluster cluster({.workers = 1, .slots = 1});
  ChildProcess& run =
      cluster.longhaul({"run", "--", rank_program(), "touch=up", "await=go", "out=done"});
  cluster.wait_for_touch("up", 0);
  cluster.worker(0).kill(SIGUSR2);
  ASSERT_TRUE(eventually([&] {
    return cluster.logs().find("no other worker could take its ranks over") != std::string::npos;
  }));
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(run.wait(), 0) << run.err();
}

TEST(RestartedWorker, CleansUpWhenItIsTold) {
  Cluster cluster(kOneWorker);
  ChildProcess& run =
      cluster.longhaul({"run", "--ranks", "4", "--", rank_program(), "deaf", "touch=up", "nap"});
  const std::vector<pid_t> pids = wait_for_four(cluster, "up");
  cluster.restart_worker(0, {"--no-adopt"});
  const std::optional<int> code = run.wait();
  ASSERT_TRUE(code);
  EXPECT_NE(*code, 0);
  EXPECT_THAT(run.err(), HasSubstr("culprit     worker w0"));
  for (const pid_t pid : pids) EXPECT_FALSE(is_running(pid));
}

TEST(RestartedWorker, ThatComesAfterItsLeaseStopsItsRanks) {
  Cluster cluster({.workers = 1, .slots = 4, .lease = "1", .keep_state = true});
  ChildProcess& run = cluster.longhaul(
      {"run", "--ranks", "2", "--grace", "1", "--", rank_program(), "touch=up", "nap"});
  const pid_t rank = cluster.wait_for_touch("up", 1);
  cluster.kill_worker(0);
  const std::optional<int> code = run.wait();
  ASSERT_TRUE(code);
  EXPECT_NE(*code, 0);
  EXPECT_THAT(run.err(), HasSubstr("class       worker lost"));
  EXPECT_TRUE(is_running(rank)) << "it waits for another worker";
  cluster.start_worker(0);
  EXPECT_TRUE(eventually([&] { return !is_running(rank); }));
}

// A gang of one rank. Its first attempt numbers lines until it is told to stop, and then says how
// many; the next one waits for the file `enough`.
class LostWorker : public ::testing::Test {
 protected:
  static constexpr const char* kCountingUntilStopped =
      "if [ $LONGHAUL_GENERATION != 1 ]; then while [ ! -e enough ]; do sleep 0.02; done; exit; "
      "fi; "
      "trap stop=1 TERM; i=0; "
      "while [ -z \"$stop\" ]; do i=$((i+1)); echo line $i; sleep 0.002; done; echo sum $i";

  // The first worker is stopped, counts as LOST, and the gang is formed again on the second one.
  LostWorker() {
    wait_for_line(run_, 20);
    cluster_.add_worker(1);
    cluster_.wait_for_workers(2);
    cluster_.worker(0).kill(SIGSTOP);
    EXPECT_TRUE(eventually([&] { return run_.err().find("attempt 2") != std::string::npos; }));
  }
  void end_the_job() {
    std::ofstream(cluster_.file("enough")) << "\n";
    EXPECT_EQ(run_.wait(), 0) << run_.err();
  }
  static bool is_whole(const std::string& out) {
    return out.ends_with('\n') && out.find("] sum ") != std::string::npos;
  }
  std::string logs(const std::vector<std::string>& flags = {}) {
    std::vector<std::string> command = {"logs", "last"};
    command.insert(command.end(), flags.begin(), flags.end());
    EXPECT_EQ(cluster_.longhaul_to_end(command), 0);
    return cluster_.last().out();
  }
  void expect_its_spool_is_gone() {
    const std::string spool = cluster_.file("state-w0/spool");
    EXPECT_TRUE(eventually(
        [&] { return !std::filesystem::exists(spool) || std::filesystem::is_empty(spool); }));
  }

  Cluster cluster_{{.workers = 1, .slots = 1, .lease = "1", .keep_state = true}};
  ChildProcess& run_ = cluster_.longhaul(
      {"run", "--ranks", "1", "--max-node-restarts", "1", "--", "sh", "-c", kCountingUntilStopped});
};

TEST_F(LostWorker, WhatItsRanksHavePrintedComesWhenItIsBack) {
  EXPECT_FALSE(is_whole(run_.out()));
  cluster_.worker(0).kill(SIGCONT);
  EXPECT_TRUE(eventually([&] { return is_whole(run_.out()); })) << "whoever follows sees it come";
  end_the_job();
  expect_every_line_once_and_in_order(lines_of(run_.out(), 0));
  expect_every_line_once_and_in_order(lines_of(logs({"--attempt", "1"}), 0));
  expect_its_spool_is_gone();
}

TEST_F(LostWorker, WhatItsRanksHavePrintedComesAfterTheEndOfTheJobToo) {
  end_the_job();
  EXPECT_FALSE(is_whole(logs({"-f"}))) << "it does not wait for what may come late";
  cluster_.restart_master();
  cluster_.restart_worker(0);
  EXPECT_TRUE(eventually([&] { return is_whole(logs()); }));
  cluster_.restart_master();
  cluster_.restart_worker(0);
  cluster_.wait_for_workers(2);
  expect_every_line_once_and_in_order(lines_of(logs(), 0));
  expect_its_spool_is_gone();
}

}  // namespace
}  // namespace longhaul::testing

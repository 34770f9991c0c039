// A worker daemon is killed and started again while its ranks run: what a user sees of it, which is
// nothing, and what an operator who wants a clean host gets. That nothing is left running is
// checked when the cluster goes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
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

}  // namespace
}  // namespace longhaul::testing

// Index ranges of a dataset, leased to ranks and committed by them: each index counts once in each
// pass, whoever dies meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>
#include <thread>
#include <tuple>

#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

struct Entry {
  std::string what;
  int rank = 0;
  uint64_t pass = 0;
  uint64_t first = 0;
  uint64_t count = 0;
  uint64_t task = 0;
  uint64_t epoch = 0;
};

std::vector<Entry> journals(const Cluster& cluster, int ranks) {
  std::vector<Entry> entries;
  for (int rank = 0; rank < ranks; ++rank) {
    std::istringstream lines(read_text(cluster.file(str_cat("journal.", rank))));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      Entry entry;
      entry.rank = rank;
      words >> entry.what >> entry.pass >> entry.first >> entry.count >> entry.task >> entry.epoch;
      entries.push_back(entry);
    }
  }
  return entries;
}

// The newest pid that a rank has written down (in the place of the pass).
pid_t pid_of(const Cluster& cluster, int rank) {
  pid_t pid = 0;
  for (const Entry& entry : journals(cluster, rank + 1)) {
    if (entry.what == "pid" && entry.rank == rank) pid = static_cast<pid_t>(entry.pass);
  }
  return pid;
}

// What the master's database says: "TASK STATE EPOCH" of every shard.
std::map<uint64_t, uint64_t> committed_epochs(Cluster& cluster) {
  ChildProcess& query = cluster.start_in_folder(
      {"python3", "-c",
       "import sqlite3\n"
       "for r in sqlite3.connect('file:master-state/master.db?mode=ro', uri=True)"
       ".execute('SELECT task, epoch FROM shards WHERE state=3'): print(*r)"});
  EXPECT_EQ(query.wait(), 0) << query.err();
  std::map<uint64_t, uint64_t> epochs;
  std::istringstream lines(query.out());
  for (uint64_t task = 0, epoch = 0; lines >> task >> epoch;) epochs[task] = epoch;
  return epochs;
}

// Every index of every pass has been committed by exactly one lease, and whoever was told that his
// range counts is the one whom the database names.
void expect_each_index_once(Cluster& cluster, int ranks, uint64_t size, uint64_t shard,
                            uint64_t passes) {
  const uint64_t per_pass = (size - 1) / shard + 1;
  const std::map<uint64_t, uint64_t> epochs = committed_epochs(cluster);
  EXPECT_EQ(epochs.size(), per_pass * passes);
  std::set<std::pair<uint64_t, uint64_t>> told;               // (pass, first)
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> counted;  // (pass, first) -> indices
  for (const Entry& entry : journals(cluster, ranks)) {
    if (entry.what == "commit") {
      EXPECT_TRUE(told.emplace(entry.pass, entry.first).second)
          << "pass " << entry.pass << " index " << entry.first << " counts twice";
      EXPECT_EQ(epochs.at(entry.task), entry.epoch);
    }
    // A rank that died between its commit and the answer wrote down only the grant.
    const auto done = epochs.find(entry.task);
    if (entry.what == "grant" && done != epochs.end() && done->second == entry.epoch) {
      EXPECT_TRUE(counted.try_emplace({entry.pass, entry.first}, entry.count).second);
    }
  }
  for (uint64_t pass = 0; pass < passes; ++pass) {
    uint64_t next = 0;
    for (auto range = counted.lower_bound({pass, 0});
         range != counted.end() && range->first.first == pass; ++range) {
      EXPECT_EQ(range->first.second, next) << "pass " << pass;
      next += range->second;
    }
    EXPECT_EQ(next, size) << "pass " << pass;
  }
}

std::vector<std::string> run_shards(const std::vector<std::string>& flags,
                                    const std::vector<std::string>& plan) {
  std::vector<std::string> command = {"run"};
  command.insert(command.end(), flags.begin(), flags.end());
  command.insert(command.end(), {"--", program("longhaul-test-shards")});
  command.insert(command.end(), plan.begin(), plan.end());
  return command;
}

TEST(Shards, RanksShareADatasetAndEachIndexCountsOnce) {
  Cluster cluster;
  EXPECT_EQ(
      cluster.longhaul_to_end(run_shards({"--ranks", "4"}, {"train", "1003", "20", "3", "42"})), 0)
      << cluster.last().err();
  expect_each_index_once(cluster, 4, 1003, 20, 3);
  std::set<int> ranks;
  for (const Entry& entry : journals(cluster, 4)) {
    if (entry.what == "commit") ranks.insert(entry.rank);
  }
  EXPECT_EQ(ranks.size(), 4u);
}

TEST(Shards, ABadPlanIsSaid) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_EQ(cluster.longhaul_to_end(run_shards({"--ranks", "1"}, {"train", "0", "20", "3"})), 99);
  EXPECT_THAT(cluster.last().err() + cluster.last().out(),
              HasSubstr("dataset size 0, shard size 20"));
}

TEST(ShardsUnderFire, EachIndexCountsOnceWhileRanksWorkersAndTheMasterAreKilled) {
  Cluster cluster({.workers = 2, .slots = 2, .keep_state = true});
  ChildProcess& run = cluster.longhaul(
      run_shards({"--ranks", "4", "--max-restarts", "20", "--max-node-restarts", "20"},
                 {"train", "14000", "10", "2", "7"}));
  const auto commits = [&] {
    size_t count = 0;
    for (const Entry& entry : journals(cluster, 4)) count += entry.what == "commit" ? 1 : 0;
    return count;
  };
  int kills = 0;
  for (size_t round = 0; round < 9; ++round) {
    // Each time, work has gone on since.
    const size_t before = commits();
    ASSERT_TRUE(eventually([&] { return commits() > before + 40 || !is_running(run.pid()); }))
        << cluster.logs();
    if (!is_running(run.pid())) break;
    ++kills;
    if (round % 3 == 0) {
      cluster.restart_master();
    } else if (round % 3 == 1) {
      cluster.restart_worker(round % 2);
    } else {
      ::kill(pid_of(cluster, static_cast<int>(round % 4)), SIGKILL);
    }
  }
  EXPECT_GE(kills, 6);
  EXPECT_EQ(run.wait(std::chrono::seconds(100)), 0) << run.err() << cluster.logs();
  expect_each_index_once(cluster, 4, 14'000, 10, 2);
}

}  // namespace
}  // namespace longhaul::testing

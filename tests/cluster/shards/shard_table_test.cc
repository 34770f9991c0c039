#include "cluster/shards/shard_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>

#include "base/check.h"
#include "base/mix.h"
#include "cluster/shards/seeded_permutation.h"

namespace longhaul {
namespace {

const LeaseHolder kReader{"alice", "a1"};
const Instant kShardNow{milliseconds(1'000'000)};

ShardOptions sizes(uint64_t dataset, uint64_t shard, uint32_t passes = 1) {
  ShardOptions options;
  options.dataset_size = dataset;
  options.shard_size = shard;
  options.passes = passes;
  return options;
}

ShardTable make(const ShardOptions& options) {
  return ShardTable::create(options).value_or_throw();
}

std::vector<Shard> shards_of(const std::vector<ShardGrant>& grants) {
  std::vector<Shard> shards;
  shards.reserve(grants.size());
  for (const ShardGrant& grant : grants) shards.push_back(grant.shard);
  return shards;
}

TEST(ShardTable, RangesCoverTheDatasetInOrderAndTheLastIsShorter) {
  ShardTable table = make(sizes(10, 4));
  LeaseEpochs epochs(1);
  EXPECT_EQ(table.shards_per_pass(), 3u);
  EXPECT_EQ(shards_of(table.grant(kReader, 9, epochs, kShardNow)),
            (std::vector<Shard>{{0, {0, 4}}, {0, {4, 4}}, {0, {8, 2}}}));
}

TEST(ShardTable, EveryPassCoversEachIndexOnceShuffledOrNot) {
  for (const auto seed : {std::optional<uint64_t>(), std::optional<uint64_t>(7)}) {
    for (const uint64_t dataset : {1, 2, 7, 64, 1000}) {
      for (const uint64_t shard : {1, 3, 64, 5000}) {
        ShardOptions options = sizes(dataset, shard, 3);
        options.shuffle_seed = seed;
        const ShardTable table = make(options);
        std::vector<std::vector<int>> hits(3, std::vector<int>(dataset));
        for (TaskIndex task = 0; task < table.tasks().size(); ++task) {
          const auto [pass, range] = table.shard(task);
          for (uint64_t i = 0; i < range.count; ++i) ++hits.at(pass).at(range.first + i);
        }
        EXPECT_EQ(hits, std::vector(3, std::vector<int>(dataset, 1)));
      }
    }
  }
}

TEST(ShardTable, TheShuffleIsTheOneInTheHeader) {
  ShardOptions options = sizes(100, 1, 2);
  options.shuffle_seed = 42;
  const ShardTable table = make(options);
  const SeededPermutation of_pass_1(100, mix64(42 ^ mix64(1)));
  int moved = 0;
  for (TaskIndex place = 0; place < 100; ++place) {
    EXPECT_EQ(table.shard(100 + place), (Shard{1, {of_pass_1(place), 1}}));
    moved += table.shard(place).range == table.shard(100 + place).range ? 0 : 1;
  }
  EXPECT_GT(moved, 90) << "passes have orders of their own";
}

TEST(ShardTable, APassBeginsWhenAllOfTheOneBeforeIsCommitted) {
  ShardTable table = make(sizes(4, 2, 2));
  LeaseEpochs epochs(1);
  const std::vector<ShardGrant> first = table.grant(kReader, 9, epochs, kShardNow);
  EXPECT_EQ(first.size(), 2u);
  table.tasks().commit(first[0].lease);
  EXPECT_TRUE(table.grant(kReader, 9, epochs, kShardNow).empty());
  EXPECT_EQ(table.current_pass(), 0u);
  EXPECT_EQ(table.committed(0), 2u);
  table.tasks().commit(first[1].lease);
  EXPECT_EQ(table.current_pass(), 1u);
  EXPECT_EQ(table.committed(0), 4u);
  EXPECT_EQ(table.committed(1), 0u);
  const std::vector<ShardGrant> second = table.grant(kReader, 9, epochs, kShardNow);
  EXPECT_EQ(shards_of(second), (std::vector<Shard>{{1, {0, 2}}, {1, {2, 2}}}));
  for (const ShardGrant& grant : second) table.tasks().commit(grant.lease);
  EXPECT_TRUE(table.tasks().ended());
  EXPECT_EQ(table.current_pass(), 2u);
}

TEST(ShardTable, PassesMayOverlap) {
  ShardOptions options = sizes(4, 2, 2);
  options.pass_by_pass = false;
  ShardTable table = make(options);
  LeaseEpochs epochs(1);
  EXPECT_EQ(table.grant(kReader, 9, epochs, kShardNow).size(), 4u);
}

TEST(ShardTable, AShardThatNobodyCanReadIsReportedAndStopsNoPass) {
  ShardOptions options = sizes(4, 2, 2);
  options.tasks.budgets.application = 1;
  ShardTable table = make(options);
  LeaseEpochs epochs(1);
  const std::vector<ShardGrant> first = table.grant(kReader, 9, epochs, kShardNow);
  table.tasks().commit(first[0].lease);
  table.tasks().fail(first[1].lease, FaultKind::kApplication, "corrupt record 3", kShardNow);
  EXPECT_EQ(table.current_pass(), 1u);
  EXPECT_EQ(table.tasks().quarantined(), (std::vector<TaskIndex>{1}));
  EXPECT_EQ(table.committed(0), 2u);
  EXPECT_EQ(table.grant(kReader, 9, epochs, kShardNow).size(), 2u);
}

TEST(ShardTable, RefusesWhatCannotBeALedger) {
  const auto refusal = [](const ShardOptions& options) {
    const Result<ShardTable> table = ShardTable::create(options);
    if (table) return std::string("taken");
    EXPECT_EQ(table.failure().kind, ErrorKind::kInvalid);
    return table.failure().message;
  };
  EXPECT_EQ(refusal(sizes(0, 1)),
            "shards: dataset size 0, shard size 1, passes 1: none of them may be 0");
  EXPECT_NE(refusal(sizes(1, 0)), "taken");
  EXPECT_NE(refusal(sizes(1, 1, 0)), "taken");
  EXPECT_EQ(refusal(sizes(1'000'000'000, 10, 100)),
            "shards: 100000000 shards in 100 passes are more than 10000000; shard size must be at "
            "least 10000");
  EXPECT_EQ(refusal(sizes(1'000'000'000, 10'000, 100)), "taken");
  EXPECT_NE(refusal(sizes(1'000'000'000, 9'999, 100)), "taken");
  EXPECT_EQ(refusal(sizes(1, 1, 4'000'000'000)),
            "shards: 1 shards in 4000000000 passes are more than 10000000; passes must be at most "
            "10000000");
  EXPECT_EQ(refusal(sizes(UINT64_MAX, UINT64_MAX, 3)), "taken");
  EXPECT_EQ(make(sizes(UINT64_MAX, UINT64_MAX - 1)).shard(1).range,
            (IndexRange{UINT64_MAX - 1, 1}));
  EXPECT_THROW((void)make(sizes(1, 1)).shard(1), BugError);
  EXPECT_THROW((void)make(sizes(1, 1)).committed(1), BugError);
}

// Trainers that die, commit twice and commit late, under a master that forgets what it has not
// written: each index of each pass is acknowledged exactly once, and passes do not overlap.
class RandomTraining {
 public:
  explicit RandomTraining(uint32_t seed) : random_(seed) {
    options_ = sizes(1 + pick(60), 1 + pick(10), 1 + pick(4));
    if (pick(2) == 0) options_.shuffle_seed = random_();
    options_.pass_by_pass = pick(3) != 0;
    options_.tasks.backoff = {milliseconds(10), milliseconds(10)};
    options_.tasks.budgets.node = FaultBudgets::kUnlimited;
    ledger_.emplace(make(options_));
  }

  void train() {
    for (int step = 0; step < 20'000 && !ledger_->tasks().ended(); ++step) {
      random_event();
      if (::testing::Test::HasFailure()) return;
    }
    write();
    ASSERT_TRUE(ledger_->tasks().ended());
    for (uint32_t pass = 0; pass < options_.passes; ++pass) {
      EXPECT_EQ(trained_[pass], std::vector<int>(options_.dataset_size, 1));
      EXPECT_EQ(ledger_->committed(pass), options_.dataset_size);
    }
  }

 private:
  uint32_t pick(uint32_t below) { return random_() % below; }

  void random_event() {
    now_ += milliseconds(pick(10));
    switch (pick(10)) {
      case 0:
      case 1:
      case 2:
        return grant();
      case 3:
      case 4:
      case 5:
      case 6:
        return commit();
      case 7:
        return write();
      case 8:
        if (pick(3) == 0) ledger_->tasks().worker_lost(trainer().incarnation, "lost", now_);
        return;
      default:
        if (pick(4) == 0) restart();
        return;
    }
  }
  LeaseHolder trainer() {
    const std::string name = "t" + std::to_string(pick(3));
    return {name, name};
  }

  void grant() {
    for (ShardGrant& grant : ledger_->grant(trainer(), 1 + pick(3), epochs_, now_)) {
      if (options_.pass_by_pass) {
        EXPECT_EQ(grant.shard.pass, ledger_->current_pass());
      }
      granted_.push_back(std::move(grant));
    }
  }

  void commit() {
    if (granted_.empty()) return;
    const size_t recent = std::min<size_t>(granted_.size(), 6);
    const ShardGrant& grant = granted_[granted_.size() - 1 - pick(static_cast<uint32_t>(recent))];
    const CommitOutcome outcome = ledger_->tasks().commit(grant.lease);
    if (outcome != CommitOutcome::kCommitted && outcome != CommitOutcome::kRepeated) return;
    EXPECT_EQ(ledger_->shard(grant.lease.task), grant.shard);
    unacknowledged_.push_back(grant);
  }

  void write() {
    for (TaskRecord& row : ledger_->tasks().take_changes()) disk_[row.task] = std::move(row);
    for (const ShardGrant& grant : unacknowledged_) {
      if (!acknowledged_.insert(grant.lease.epoch).second) continue;  // the same commit again
      std::vector<int>& trained = trained_[grant.shard.pass];
      trained.resize(options_.dataset_size);
      const IndexRange& range = grant.shard.range;
      for (uint64_t i = 0; i < range.count; ++i) ++trained.at(range.first + i);
    }
    unacknowledged_.clear();
  }

  void restart() {
    std::vector<TaskRecord> rows;
    rows.reserve(disk_.size());
    for (const auto& [task, row] : disk_) rows.push_back(row);
    ledger_.emplace(make(options_));
    ASSERT_TRUE(ledger_->tasks().restore(rows, now_));
    epochs_ = LeaseEpochs(++boot_);
    unacknowledged_.clear();
  }

  std::mt19937 random_;
  ShardOptions options_;
  std::optional<ShardTable> ledger_;
  uint32_t boot_ = 1;
  LeaseEpochs epochs_{boot_};
  Instant now_ = kShardNow;
  std::vector<ShardGrant> granted_;
  std::vector<ShardGrant> unacknowledged_;
  std::set<LeaseEpoch> acknowledged_;
  std::map<TaskIndex, TaskRecord> disk_;
  std::map<uint32_t, std::vector<int>> trained_;
};

TEST(ShardLedgerRandom, EachIndexIsTrainedOnExactlyOnceAPass) {
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(seed);
    RandomTraining(seed).train();
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace longhaul

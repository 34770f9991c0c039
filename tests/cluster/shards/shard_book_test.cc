#include "cluster/shards/shard_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const LeaseHolder kRank0{"w1", "1/0"};
const LeaseHolder kRank1{"w2", "1/1"};

ShardPlan plan(uint64_t size, uint64_t shard, uint32_t passes = 1) {
  ShardPlan made;
  made.dataset_size = size;
  made.shard_size = shard;
  made.passes = passes;
  return made;
}

class ShardBookTest : public ::testing::Test {
 protected:
  Result<ShardAnswer> try_exchange(const LeaseHolder& holder, ShardExchange asked) {
    asked.dataset = dataset_;
    asked.plan = plan_;
    return book_.exchange(holder, asked, epochs_, Instant());
  }
  ShardAnswer exchange(const LeaseHolder& holder, ShardExchange asked) {
    return try_exchange(holder, std::move(asked)).value_or_throw();
  }
  std::vector<ShardGrant> lease(const LeaseHolder& holder, uint32_t want,
                                std::vector<LeaseEpoch> held = {}) {
    ShardExchange asked;
    asked.want = want;
    asked.held = std::move(held);
    return exchange(holder, std::move(asked)).grants;
  }
  CommitOutcome commit(const LeaseHolder& holder, const Lease& lease) {
    ShardExchange asked;
    asked.commits = {lease};
    return exchange(holder, std::move(asked)).commits.at(0);
  }

  std::string dataset_ = "train";
  ShardPlan plan_ = plan(10, 4);
  ShardBook book_;
  LeaseEpochs epochs_{1};
};

TEST_F(ShardBookTest, EachRangeIsGrantedOnceAndCountsOnce) {
  const std::vector<ShardGrant> first = lease(kRank0, 2);
  const std::vector<ShardGrant> second = lease(kRank1, 2);
  ASSERT_THAT(first, SizeIs(2));
  ASSERT_THAT(second, SizeIs(1));
  EXPECT_EQ(first[0].shard, (Shard{0, {0, 4}}));
  EXPECT_EQ(first[1].shard, (Shard{0, {4, 4}}));
  EXPECT_EQ(second[0].shard, (Shard{0, {8, 2}}));
  EXPECT_EQ(commit(kRank0, first[0].lease), CommitOutcome::kCommitted);
  EXPECT_EQ(commit(kRank0, first[0].lease), CommitOutcome::kRepeated);
  EXPECT_EQ(commit(kRank1, second[0].lease), CommitOutcome::kCommitted);
  ShardExchange last;
  last.commits = {first[1].lease};
  const ShardAnswer answer = exchange(kRank0, last);
  EXPECT_TRUE(answer.over);
  EXPECT_EQ(answer.pass, 1u);
  EXPECT_EQ(answer.done_shards, 3u);
  EXPECT_EQ(answer.shards, 3u);
}

TEST_F(ShardBookTest, AGrantWhoseAnswerWasLostIsToldAgain) {
  const std::vector<ShardGrant> lost = lease(kRank0, 1);
  const std::vector<ShardGrant> again = lease(kRank0, 1);
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0].lease, lost[0].lease);
  EXPECT_THAT(lease(kRank0, 0, {again[0].lease.epoch}), IsEmpty());
  const std::vector<ShardGrant> next = lease(kRank0, 1, {again[0].lease.epoch});
  ASSERT_THAT(next, SizeIs(1));
  EXPECT_NE(next[0].lease, again[0].lease);
}

TEST_F(ShardBookTest, NobodyCommitsWhatSomebodyElseHolds) {
  const Lease lease_of_0 = lease(kRank0, 1)[0].lease;
  EXPECT_NE(commit(kRank1, lease_of_0), CommitOutcome::kCommitted);
  EXPECT_EQ(commit(kRank0, lease_of_0), CommitOutcome::kCommitted);
}

TEST_F(ShardBookTest, ALeaseEndsWithItsRank) {
  const ShardGrant grant = lease(kRank0, 1)[0];
  (void)lease(kRank1, 1);
  book_.release(kRank0.incarnation);
  EXPECT_EQ(commit(kRank0, grant.lease), CommitOutcome::kStale);
  const LeaseHolder next_generation{"w1", "2/0"};
  const ShardGrant again = lease(next_generation, 1)[0];
  EXPECT_EQ(again.shard, grant.shard);
  book_.release_all();
  EXPECT_EQ(commit(next_generation, again.lease), CommitOutcome::kStale);
  EXPECT_THAT(lease({"w1", "3/0"}, 10), SizeIs(3));
}

TEST_F(ShardBookTest, WhatIsGivenBackIsGrantedAgainFirst) {
  const std::vector<ShardGrant> grants = lease(kRank0, 2);
  ShardExchange asked;
  asked.give_backs = {grants[0].lease};
  asked.held = {grants[1].lease.epoch};
  (void)exchange(kRank0, asked);
  EXPECT_EQ(lease(kRank1, 1)[0].shard, grants[0].shard);
}

TEST_F(ShardBookTest, APassWaitsForTheOneBefore) {
  plan_ = plan(4, 2, 2);
  const std::vector<ShardGrant> grants = lease(kRank0, 10);
  ASSERT_THAT(grants, SizeIs(2));
  EXPECT_THAT(lease(kRank1, 10), IsEmpty());
  EXPECT_EQ(commit(kRank0, grants[0].lease), CommitOutcome::kCommitted);
  EXPECT_THAT(lease(kRank1, 10), IsEmpty());
  EXPECT_EQ(commit(kRank0, grants[1].lease), CommitOutcome::kCommitted);
  EXPECT_EQ(lease(kRank1, 1)[0].shard.pass, 1u);
}

TEST_F(ShardBookTest, AnotherPlanABadPlanAndABadNameAreRefused) {
  (void)lease(kRank0, 1);
  plan_.shuffle_seed = 5;
  EXPECT_THAT(try_exchange(kRank1, {}).failure().message,
              HasSubstr("was opened with 10 indices in shards of 4, 1 passes, in order"));
  dataset_ = "other";
  plan_ = plan(0, 4);
  EXPECT_EQ(try_exchange(kRank1, {}).failure().kind, ErrorKind::kInvalid);
  plan_ = plan(1, 1);
  for (const std::string& name : {std::string(), std::string(257, 'x')}) {
    dataset_ = name;
    EXPECT_EQ(try_exchange(kRank1, {}).failure().kind, ErrorKind::kInvalid);
  }
  for (size_t i = 1; i < ShardBook::kMaxDatasets; ++i) {
    dataset_ = std::to_string(i);
    (void)exchange(kRank1, {});
  }
  dataset_ = "one too many";
  EXPECT_THAT(try_exchange(kRank1, {}).failure().message, HasSubstr("at most 64 datasets"));
}

// Ranks die, exchanges and answers are lost and repeated, the master restarts from the rows: in the
// end every index of every pass was committed by exactly one lease, and who was told "it counts" is
// who the rows name.
TEST(ShardBookRandom, EveryIndexCountsOnceWhateverHappens) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](uint64_t n) { return random() % n; };
    ShardPlan wanted = plan(1 + below(60), 1 + below(9), 1 + static_cast<uint32_t>(below(3)));
    if (below(2) == 0) wanted.shuffle_seed = seed;
    wanted.pass_by_pass = below(4) != 0;
    ShardBook book;
    uint32_t boot = 1;
    LeaseEpochs epochs(boot);
    std::map<TaskIndex, TaskRecord> durable;
    const auto keep = [&] {
      for (const auto& [name, rows] : book.take_rows().shards) {
        for (const TaskRecord& row : rows) durable[row.task] = row;
      }
    };
    struct RankLife {
      int life = 0;
      std::vector<ShardGrant> held;
    };
    std::vector<RankLife> ranks(1 + below(4));
    std::map<TaskIndex, LeaseEpoch> counted;
    const auto holder = [&](size_t rank) {
      return LeaseHolder{"w", std::to_string(ranks[rank].life) + "/" + std::to_string(rank)};
    };
    bool over = false;
    for (int step = 0; !over && step < 20'000; ++step) {
      const size_t rank = below(ranks.size());
      RankLife& life = ranks[rank];
      switch (below(12)) {
        case 0:
          book.release(holder(rank).incarnation);
          keep();
          ++life.life;
          life.held.clear();
          break;
        case 1: {
          ShardBook restarted;
          std::vector<TaskRecord> rows;
          rows.reserve(durable.size());
          for (const auto& [task, row] : durable) rows.push_back(row);
          restarted.restore("d", wanted, rows, Instant()).value_or_throw();
          book = std::move(restarted);
          epochs = LeaseEpochs(++boot);
          break;
        }
        default: {
          ShardExchange asked{"d", wanted, {}, {}, {}, static_cast<uint32_t>(below(3))};
          for (ShardGrant& grant : std::exchange(life.held, {})) {
            const uint64_t what = below(4);
            if (what == 0) {
              asked.give_backs.push_back(grant.lease);
            } else if (what == 1) {
              asked.commits.push_back(grant.lease);
            } else {
              asked.held.push_back(grant.lease.epoch);
              life.held.push_back(std::move(grant));
            }
          }
          // Lost on the way there: the rank says it again, so here it is simply later.
          ShardAnswer answer =
              book.exchange(holder(rank), asked, epochs, Instant()).value_or_throw();
          keep();
          // Lost on the way back: said again.
          if (below(5) == 0) {
            answer = book.exchange(holder(rank), asked, epochs, Instant()).value_or_throw();
            keep();
          }
          for (size_t i = 0; i < asked.commits.size(); ++i) {
            const bool counts = answer.commits[i] == CommitOutcome::kCommitted ||
                                answer.commits[i] == CommitOutcome::kRepeated;
            if (!counts) continue;
            const Lease& lease = asked.commits[i];
            EXPECT_TRUE(counted.emplace(lease.task, lease.epoch).second) << "seed " << seed;
          }
          // Or lost with the rank's patience: the next answer tells of the grants again.
          if (below(6) != 0) {
            for (ShardGrant& grant : answer.grants) life.held.push_back(std::move(grant));
          }
          over = answer.over;
        }
      }
    }
    ASSERT_TRUE(over) << "seed " << seed;
    const ShardTable& table = *book.find("d");
    std::map<std::pair<uint32_t, uint64_t>, int> times;
    for (TaskIndex task = 0; task < table.tasks().size(); ++task) {
      EXPECT_EQ(durable[task].state, TaskState::kDone);
      EXPECT_EQ(counted.at(task), durable[task].epoch);
      const Shard shard = table.shard(task);
      for (uint64_t i = 0; i < shard.range.count; ++i) ++times[{shard.pass, shard.range.first + i}];
    }
    EXPECT_EQ(times.size(), wanted.dataset_size * wanted.passes);
    EXPECT_TRUE(
        std::all_of(times.begin(), times.end(), [](const auto& one) { return one.second == 1; }));
  }
}

}  // namespace
}  // namespace longhaul

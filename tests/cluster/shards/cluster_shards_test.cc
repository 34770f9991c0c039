// Who may hold ranges of a dataset, as the whole cluster sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cluster/state_driver.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

class ClusterShardsTest : public ::testing::Test {
 protected:
  ClusterShardsTest() {
    worker_ = on_.connect("w", 2);
    JobSpec spec;
    spec.ranks = 2;
    spec.max_restarts = 3;
    job_ = *on_.submit(spec);
    launch(1);
  }

  void launch(Generation generation) {
    on_.prepared(worker_, job_);
    for (const Rank rank : {0, 1}) on_.says(worker_, job_, rank, RankSpawned{7}, generation);
    ASSERT_EQ(on_.job(job_).state, JobState::kRunning);
  }

  ShardAnswerMessage ask(Rank rank, ShardExchange asked, Generation generation = 1) {
    asked.dataset = "train";
    asked.plan.dataset_size = 4;
    asked.plan.shard_size = 2;
    on_.shards(worker_, ++call_, job_, rank, std::move(asked), generation);
    std::vector<ShardAnswerMessage> answers = on_.take<ShardAnswerMessage>(worker_);
    EXPECT_THAT(answers, SizeIs(1));
    EXPECT_EQ(answers.at(0).call_id, call_);
    return answers.at(0);
  }
  std::vector<ShardGrant> lease(Rank rank, uint32_t want, Generation generation = 1) {
    ShardExchange asked;
    asked.want = want;
    return ask(rank, asked, generation).answer.grants;
  }
  CommitOutcome commit(Rank rank, const Lease& lease, Generation generation = 1) {
    ShardExchange asked;
    asked.commits = {lease};
    const ShardAnswerMessage said = ask(rank, asked, generation);
    EXPECT_FALSE(said.failure);
    return said.answer.commits.at(0);
  }

  StateDriver on_;
  SessionId worker_ = 0;
  JobId job_;
  uint64_t call_ = 0;
};

TEST_F(ClusterShardsTest, ARankThatEndsGivesItsRangesToOthers) {
  const std::vector<ShardGrant> of_0 = lease(0, 1);
  const std::vector<ShardGrant> of_1 = lease(1, 1);
  ASSERT_THAT(of_0, SizeIs(1));
  ASSERT_THAT(of_1, SizeIs(1));
  on_.exits(worker_, job_, 0, 0);
  const ShardAnswerMessage late = ask(0, {});
  ASSERT_TRUE(late.failure);
  EXPECT_EQ(late.failure->kind, ErrorKind::kStale);
  ShardExchange asked;
  asked.held = {of_1[0].lease.epoch};
  asked.want = 5;
  const std::vector<ShardGrant> again = ask(1, asked).answer.grants;
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0].shard, of_0[0].shard);
  EXPECT_NE(again[0].lease, of_0[0].lease);
}

TEST_F(ClusterShardsTest, WhatWasCommittedStaysSoInTheNextGeneration) {
  const std::vector<ShardGrant> grants = lease(0, 2);
  ASSERT_THAT(grants, SizeIs(2));
  EXPECT_EQ(commit(0, grants[1].lease), CommitOutcome::kCommitted);
  on_.exits(worker_, job_, 1, 7);
  on_.pass(400, {worker_});
  on_.exits(worker_, job_, 0, 0, SIGTERM, true);
  ASSERT_EQ(on_.job(job_).generation, 2U);
  on_.pass(1'000, {worker_});
  launch(2);
  const ShardAnswerMessage late = ask(0, {}, 1);
  ASSERT_TRUE(late.failure);
  EXPECT_THAT(late.failure->message, HasSubstr("generation 1"));
  const std::vector<ShardGrant> again = lease(1, 5, 2);
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0].shard, grants[0].shard);
  EXPECT_EQ(commit(0, grants[0].lease, 2), CommitOutcome::kStale);
  EXPECT_EQ(commit(1, again[0].lease, 2), CommitOutcome::kCommitted);
}

TEST_F(ClusterShardsTest, LeasesAndCommitsOutliveTheMaster) {
  const std::vector<ShardGrant> grants = lease(0, 2);
  EXPECT_EQ(commit(0, grants[0].lease), CommitOutcome::kCommitted);
  on_.restart_master();
  worker_ = on_.connect("w", 2, "", {LaunchId{job_, 1}});
  EXPECT_EQ(commit(0, grants[0].lease), CommitOutcome::kRepeated);
  EXPECT_EQ(commit(0, grants[1].lease), CommitOutcome::kCommitted);
  EXPECT_TRUE(ask(1, {}).answer.over);
}

}  // namespace
}  // namespace longhaul::testing

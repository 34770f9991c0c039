// Who keeps the others waiting.
#include "cluster/failure/hang.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cluster/state_driver.h"

namespace longhaul {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr Instant kNow{std::chrono::hours(1)};
const std::string kReduce = "all-reduce of 25 MB (bucket 3 of step 17)";

RankProgress at(int64_t step, uint64_t begun, const std::string& operation = "") {
  RankProgress progress;
  progress.step = step;
  progress.collective_sequence = begun;
  progress.operation = operation;
  return progress;
}

// Ranks that joined long ago and reported just now.
std::vector<RankRecord> gang(const std::vector<RankProgress>& progress) {
  std::vector<RankRecord> ranks(progress.size());
  for (size_t i = 0; i < ranks.size(); ++i) {
    ranks[i].rank = static_cast<Rank>(i);
    ranks[i].worker = "gpu-a";
    ranks[i].pid = 100 + static_cast<int64_t>(i);
    ranks[i].state = RankState::kJoined;
    ranks[i].joined_at = kNow - std::chrono::minutes(10);
    ranks[i].progress = progress[i];
    ranks[i].progress_at = kNow - std::chrono::seconds(1);
  }
  return ranks;
}

TEST(Hang, TheOneThatHasBegunTheFewestCollectivesIsBehind) {
  const auto hang =
      find_hang(gang({at(17, 38, kReduce), at(17, 38, kReduce), at(16, 37)}), kNow).value();
  EXPECT_EQ(hang.rank, 2);
  EXPECT_THAT(hang.waiting, ElementsAre(0, 1));
  EXPECT_EQ(hang.message,
            "rank 2 on gpu-a (pid 102) is behind, at step 16, in no collective (37 begun); ranks 0 "
            "and 1 wait for it in all-reduce of 25 MB (bucket 3 of step 17) (collective 38)");
}

TEST(Hang, ARankMaySitInAnEarlierCollectiveThanTheOthers) {
  const auto hang = find_hang(gang({at(17, 38, kReduce), at(16, 36, "barrier")}), kNow).value();
  EXPECT_EQ(hang.rank, 1);
  EXPECT_THAT(hang.message, HasSubstr("at step 16, in barrier (collective 36); rank 0 waits"));
}

TEST(Hang, OfTwoThatAreEquallyFarTheOneInNoCollectiveIsBehind) {
  EXPECT_EQ(find_hang(gang({at(17, 38, kReduce), at(17, 38)}), kNow)->rank, 1);
  EXPECT_EQ(find_hang(gang({at(17, 38), at(17, 38, kReduce)}), kNow)->rank, 0);
}

TEST(Hang, WhereAllSitInTheSameCollectiveNobodyIsBehind) {
  const auto hang = find_hang(gang({at(17, 38, kReduce), at(17, 38, kReduce)}), kNow).value();
  EXPECT_EQ(hang.rank, std::nullopt);
  EXPECT_THAT(hang.waiting, ElementsAre(0, 1));
  EXPECT_THAT(hang.message, AllOf(HasSubstr("ranks 0 and 1 are all in all-reduce"),
                                  HasSubstr("what connects them")));
}

TEST(Hang, OneThatSaysNothingAnyMoreIsBehindWhateverItSaidLast) {
  auto ranks = gang({at(17, 38, kReduce), at(17, 38, kReduce)});
  ranks[1].progress_at = kNow - std::chrono::seconds(33);
  const auto hang = find_hang(ranks, kNow).value();
  EXPECT_EQ(hang.rank, 1);
  EXPECT_THAT(hang.message, HasSubstr("says nothing any more"));
}

TEST(Hang, OneThatHasNotCalledInitIsBehindThoseWhoWaitForIt) {
  auto ranks = gang({{}, {}, {}});
  for (RankRecord& rank : ranks) rank.progress.reset();
  for (const size_t here : {0, 2}) ranks[here].waits_in_store_since = kNow - milliseconds(40'000);
  ranks[1].joined_at.reset();
  const auto hang = find_hang(ranks, kNow).value();
  EXPECT_EQ(hang.rank, 1);
  EXPECT_THAT(hang.waiting, ElementsAre(0, 2));
  EXPECT_THAT(hang.message,
              HasSubstr("it has not called init(); ranks 0 and 2 wait for it in init"));
}

TEST(Hang, ThoseWhoHaveLeftOrEndedKeepNobodyWaiting) {
  auto ranks = gang({at(17, 30), at(17, 38, kReduce), at(17, 38)});
  ranks[0].left = true;
  EXPECT_EQ(find_hang(ranks, kNow)->rank, 2);
  ranks[2].state = RankState::kExited;
  EXPECT_EQ(find_hang(ranks, kNow)->rank, std::nullopt) << "rank 1 alone is left, and waits";
}

TEST(Hang, WhereNobodyWaitsAndNothingWasDoneNothingIsSaid) {
  EXPECT_FALSE(find_hang(gang({at(0, 0), at(0, 0)}), kNow)) << "a program of another kind";
  EXPECT_FALSE(find_hang({}, kNow));
  const auto stuck = find_hang(gang({at(12, 0)}), kNow).value();
  EXPECT_EQ(stuck.rank, 0) << "alone, and it had been going";
  EXPECT_THAT(stuck.message, HasSubstr("nobody waits for it"));
  auto python = gang({{}, {}});
  for (RankRecord& rank : python) {
    rank.progress.reset();
    rank.joined_at.reset();
  }
  EXPECT_FALSE(find_hang(python, kNow)) << "it says nothing of itself";
}

TEST(Hang, ManyThatWaitAreCounted) {
  std::vector<RankProgress> progress(40, at(3, 9, kReduce));
  progress[7] = at(3, 8);
  EXPECT_THAT(find_hang(gang(progress), kNow)->message,
              HasSubstr("5, 6, 8 and 31 more wait for it"));
}

// Two ranks on one worker, told by the master's clock.
class HangInTime : public ::testing::Test {
 protected:
  HangInTime() {
    on_.prepared(worker_, job_);
    for (Rank rank = 0; rank < 2; ++rank) {
      on_.says(worker_, job_, rank, RankSpawned{100 + rank});
      on_.says(worker_, job_, rank, RankJoined{});
    }
  }
  // Both report every second, rank 0 in a collective that rank 1 does not begin.
  void wait(int seconds) {
    for (int i = 0; i < seconds; ++i) {
      on_.says(worker_, job_, 0, at(17, 38, kReduce));
      on_.says(worker_, job_, 1, at(16, 37));
      on_.pass(1000, {worker_});
    }
  }

  testing::StateDriver on_;
  SessionId worker_ = on_.connect("gpu-a", 2);
  JobId job_ = *on_.submit(2);
};

TEST_F(HangInTime, ItIsSaidAfterThirtySecondsAndTheWorkerIsAskedOnce) {
  wait(25);
  EXPECT_FALSE(on_.job(job_).hang);
  wait(10);
  ASSERT_TRUE(on_.job(job_).hang);
  EXPECT_EQ(on_.job(job_).hang->rank, 1);
  EXPECT_NEAR(static_cast<double>(on_.now().unix_ms - on_.job(job_).hang->unix_ms_since), 35'000,
              1'500);
  const auto asked = on_.take<LookAtRankMessage>(worker_);
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(asked[0].rank, 1);
  EXPECT_EQ(asked[0].launch.job, job_);
  wait(60);
  EXPECT_THAT(on_.take<LookAtRankMessage>(worker_), IsEmpty());
}

TEST_F(HangInTime, WhatTheRankAndItsWorkerAnswerIsShown) {
  wait(32);
  RankProgress seen = at(16, 37);
  seen.stack = {"#0 0x1 read_shard() at train.cc:12", "#1 0x2 main at train.cc:40"};
  on_.says(worker_, job_, 1, seen);
  on_.says(worker_, job_, 1, RankLook{"S"});
  wait(3);
  EXPECT_EQ(on_.job(job_).hang->stack, seen.stack);
  EXPECT_EQ(on_.job(job_).hang->process_state, "S");
  const Explanation why = on_.state.explain(job_, on_.now());
  EXPECT_THAT(why.reason, AllOf(HasSubstr("nothing has moved for 35"), HasSubstr("rank 1")));
  EXPECT_EQ(why.details, seen.stack);
}

TEST_F(HangInTime, ItIsOverWhenAnythingMovesAndMayComeAgain) {
  wait(32);
  EXPECT_TRUE(on_.job(job_).hang);
  on_.says(worker_, job_, 1, at(17, 38, kReduce));
  EXPECT_FALSE(on_.job(job_).hang);
  on_.says(worker_, job_, 0, at(18, 39));
  on_.take<LookAtRankMessage>(worker_);
  on_.pass(40'000, {worker_});
  ASSERT_TRUE(on_.job(job_).hang) << "neither says anything";
  EXPECT_THAT(on_.take<LookAtRankMessage>(worker_), SizeIs(1));
}

TEST_F(HangInTime, ARankThatIsBlamedForIsShownWithItsStack) {
  wait(32);
  RankProgress seen = at(16, 37);
  seen.stack = {"#0 0x1 read_shard()"};
  on_.says(worker_, job_, 1, seen);
  on_.says(worker_, job_, 0, RankFault{ErrorKind::kDeadline, "not done within 5m00s", 1});
  on_.pass(5'000, {worker_});
  for (Rank rank = 0; rank < 2; ++rank) on_.exits(worker_, job_, rank, 0, 15, true);
  const JobStatus& job = on_.job(job_);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(job.failure->failure_class, FailureClass::kHang);
  EXPECT_EQ(job.failure->rank, 1);
  EXPECT_THAT(job.failure->backtrace, ElementsAre("#0 0x1 read_shard()"));
  EXPECT_FALSE(job.hang) << "it has ended";
}

TEST_F(HangInTime, AJobThatNeverReportsIsNotSaidToHang) {
  testing::StateDriver on;
  const SessionId worker = on.connect("gpu-a", 2);
  const JobId job = *on.submit(2);
  on.prepared(worker, job);
  for (Rank rank = 0; rank < 2; ++rank) on.says(worker, job, rank, RankSpawned{100 + rank});
  on.pass(600'000, {worker});
  EXPECT_FALSE(on.job(job).hang);
}

}  // namespace
}  // namespace longhaul

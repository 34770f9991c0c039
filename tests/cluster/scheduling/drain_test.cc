// Drained workers: nothing new is placed there, what runs goes on, and it stays so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cluster/state_driver.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

class DrainTest : public ::testing::Test {
 protected:
  void drain(const WorkerId& id, bool drained = true) {
    EXPECT_TRUE(on_.state.drain(id, drained, on_.now()));
    on_.pass(1);
  }
  bool is_drained(const WorkerId& id) { return on_.state.worker(id)->drained; }
  // Its only rank runs on gpu-a, which is the first by name.
  JobId running_on_a() {
    const JobId job = *on_.submit(1);
    on_.prepared(a_, job);
    on_.says(a_, job, 0, RankSpawned{1});
    EXPECT_EQ(on_.job(job).ranks.at(0).worker, "gpu-a");
    return job;
  }

  testing::StateDriver on_;
  SessionId a_ = on_.connect("gpu-a", 2);
  SessionId b_ = on_.connect("gpu-b", 2);
};

TEST_F(DrainTest, NewWorkGoesElsewhereAndOldWorkGoesOn) {
  const JobId job = running_on_a();
  drain("gpu-a");
  const JobId next = *on_.submit(1);
  EXPECT_EQ(on_.job(next).ranks.at(0).worker, "gpu-b");
  on_.exits(a_, job, 0, 0);
  EXPECT_EQ(on_.job(job).state, JobState::kSucceeded);
}

TEST_F(DrainTest, WhoNeedsItWaitsWithoutHoldingUpOthersAndStartsWhenItIsUndone) {
  drain("gpu-a");
  const JobId large = *on_.submit(4);
  EXPECT_THAT(on_.job(large).reason, HasSubstr("1 worker drained"));
  const JobId small = *on_.submit(2);
  EXPECT_EQ(on_.job(small).state, JobState::kStarting) << "nobody waits behind it";
  on_.stop(small, true);
  on_.pass(40'000, {a_, b_});
  EXPECT_EQ(on_.job(large).state, JobState::kPending);
  drain("gpu-a", false);
  EXPECT_EQ(on_.job(large).state, JobState::kStarting);
}

TEST_F(DrainTest, TasksOfArraysStayAwayToo) {
  drain("gpu-a");
  JobSpec spec;
  spec.array.emplace().tasks = 10;
  ASSERT_TRUE(on_.submit(spec));
  EXPECT_THAT(on_.take<GrantTasksMessage>(a_), SizeIs(0));
  const auto granted = on_.take<GrantTasksMessage>(b_);
  ASSERT_THAT(granted, SizeIs(1));
  EXPECT_THAT(granted[0].batches, SizeIs(2));
  drain("gpu-a", false);
  EXPECT_THAT(on_.take<GrantTasksMessage>(a_), SizeIs(1));
}

TEST_F(DrainTest, AnArrayThatRunsThereGetsNoMoreOfItsSlots) {
  JobSpec spec;
  spec.array.emplace().tasks = 10;
  const JobId job = *on_.submit(spec);
  const auto granted = on_.take<GrantTasksMessage>(a_);
  ASSERT_THAT(granted, SizeIs(1));
  drain("gpu-a");
  for (const TaskBatch& batch : granted[0].batches) {
    on_.task_ends(a_, granted[0].launch, batch.leases.at(0), 0);
  }
  on_.pass(1'000, {a_, b_});
  EXPECT_THAT(on_.take<GrantTasksMessage>(a_), SizeIs(0));
  drain("gpu-a", false);
  EXPECT_THAT(on_.take<GrantTasksMessage>(a_), SizeIs(1));
  EXPECT_EQ(on_.job(job).state, JobState::kRunning);
}

TEST_F(DrainTest, ItOutlivesTheWorkerTheMasterAndALostLease) {
  drain("gpu-a");
  on_.restart_master();
  EXPECT_TRUE(is_drained("gpu-a"));
  a_ = on_.connect("gpu-a", 2);
  EXPECT_TRUE(is_drained("gpu-a")) << "it dialled again";
  on_.disconnect(a_);
  a_ = on_.connect("gpu-a", 2, "gpu-a-restarted");
  EXPECT_TRUE(is_drained("gpu-a")) << "another incarnation";
  on_.disconnect(a_);
  on_.pass(60'000, {});
  EXPECT_EQ(on_.state.worker("gpu-a")->state, WorkerState::kLost);
  on_.restart_master();
  EXPECT_TRUE(is_drained("gpu-a"));
}

TEST_F(DrainTest, LostWorkersAreForgottenButNotThatOneIsDrained) {
  drain("gpu-a");
  on_.disconnect(a_, /*goodbye=*/true);
  for (int i = 0; i < 150; ++i) {
    on_.disconnect(on_.connect("spot-" + std::to_string(i), 1), /*goodbye=*/true);
  }
  on_.pass(1'000, {b_});
  EXPECT_EQ(on_.state.worker("spot-0"), nullptr);
  ASSERT_NE(on_.state.worker("gpu-a"), nullptr);
  EXPECT_TRUE(is_drained("gpu-a"));
}

TEST_F(DrainTest, AWorkerThatIsNotThereGetsASuggestion) {
  const Result<void> refused = on_.state.drain("gpu-c", true, on_.now());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.failure().kind, ErrorKind::kInvalid);
  EXPECT_THAT(refused.failure().message, HasSubstr("no worker 'gpu-c': did you mean 'gpu-"));
}

}  // namespace
}  // namespace longhaul

// A state that was wiped or put back from a copy gives the same numbers again: what comes of
// another life of it is refused, and what ran in an earlier one is nobody's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cluster/state_driver.h"

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class StateLifeTest : public ::testing::Test {
 protected:
  static JobSpec array(TaskIndex tasks) {
    JobSpec spec;
    spec.array.emplace().tasks = tasks;
    spec.wait_for_nodes = true;
    return spec;
  }
  Lease granted(SessionId session) {
    const auto grants = on_.take<GrantTasksMessage>(session);
    EXPECT_THAT(grants, SizeIs(1));
    return grants.at(0).batches.at(0).leases.at(0);
  }
  JobId running(const JobSpec& spec) {
    const JobId job = *on_.submit(spec);
    on_.prepared(a_, job);
    on_.says(a_, job, 0, RankSpawned{1});
    EXPECT_EQ(on_.job(job).state, JobState::kRunning);
    return job;
  }
  static JobSpec gang(int restarts = 0) {
    JobSpec spec;
    spec.ranks = 1;
    spec.wait_for_nodes = true;
    spec.max_node_restarts = restarts;
    return spec;
  }

  testing::StateDriver on_;
  SessionId a_ = on_.connect("gpu-a", 1);
};

TEST_F(StateLifeTest, ResultsOfAWipedStateAreNotTakenForThoseOfItsSuccessor) {
  const JobId old_job = *on_.submit(array(1));
  const Lease old_lease = granted(a_);
  const LaunchId old_launch{old_job, 1, on_.life()};
  on_.wipe_state();
  a_ = on_.connect("gpu-a", 1, "", {}, {{old_launch, old_lease, old_lease.epoch}});
  const auto answers = on_.take<TaskAnswersMessage>(a_);
  ASSERT_THAT(answers, SizeIs(1)) << "the worker is told that it counts no more";
  EXPECT_THAT(answers[0].stale, ElementsAre(old_lease.epoch));

  const JobId job = *on_.submit(array(1));
  ASSERT_EQ(job, old_job);
  const Lease lease = granted(a_);
  ASSERT_EQ(lease, old_lease) << "to the last number the same";
  EXPECT_EQ(on_.task_ends(a_, old_launch, old_lease, 0), CommitOutcome::kUnknown);
  EXPECT_NE(on_.job(job).state, JobState::kSucceeded);
  EXPECT_EQ(on_.task_ends(a_, {job, 1, on_.life()}, lease, 0), CommitOutcome::kCommitted);
  EXPECT_EQ(on_.job(job).state, JobState::kSucceeded);
}

TEST_F(StateLifeTest, ALaunchOfAWipedStateIsUnknownToItsSuccessor) {
  const JobId old_job = running(gang());
  const LaunchId old_launch{old_job, 1, on_.life()};
  on_.wipe_state();
  const JobId job = *on_.submit(gang());
  ASSERT_EQ(job, old_job);
  a_ = on_.connect("gpu-a", 1, "", {old_launch});
  EXPECT_THAT(on_.take<RegisteredMessage>(a_).at(0).unknown, ElementsAre(old_launch));
  EXPECT_FALSE(on_.prints(a_, old_launch, 0));
  const auto prepare = on_.take<PrepareMessage>(a_);
  ASSERT_THAT(prepare, SizeIs(1));
  EXPECT_EQ(prepare[0].launch, (LaunchId{job, 1, on_.life()}));
  on_.state.rank_event(a_, {old_launch, 0, RankExit{}}, on_.now());
  EXPECT_EQ(on_.job(job).state, JobState::kStarting) << "the end of another one's rank";
}

TEST_F(StateLifeTest, WhatRanWhenTheCopyWasMadeFailsUnlessItMayBeTriedAgain) {
  on_.connect("gpu-b", 1);
  const JobId alone = running(gang());
  const JobId again = *on_.submit(gang(/*restarts=*/1));
  const JobId tasks = *on_.submit(array(1));
  on_.begin_new_life("put back from a copy");
  on_.pass(1'000);
  EXPECT_EQ(on_.job(alone).state, JobState::kFailed);
  EXPECT_THAT(on_.job(alone).reason, HasSubstr("put back from a copy"));
  EXPECT_EQ(on_.job(again).state, JobState::kPending);
  EXPECT_EQ(on_.job(again).generation, 2u);
  EXPECT_FALSE(has_ended(on_.job(tasks).state));

  const LaunchId earlier{alone, 1, on_.life() - 1};
  a_ = on_.connect("gpu-a", 1, "", {earlier});
  EXPECT_THAT(on_.take<RegisteredMessage>(a_).at(0).unknown, ElementsAre(earlier));
}

TEST_F(StateLifeTest, AnArrayThatWasPutBackGoesOnWithFreshLeases) {
  const JobId job = *on_.submit(array(2));
  const Lease before = granted(a_);
  const LaunchId earlier{job, 1, on_.life()};
  on_.begin_new_life();
  a_ = on_.connect("gpu-a", 1, "", {}, {{earlier, before, before.epoch}});
  EXPECT_THAT(on_.take<TaskAnswersMessage>(a_).at(0).stale, ElementsAre(before.epoch));
  for (int done = 0; done < 2; ++done) {
    on_.pass(2'000, {a_});
    EXPECT_EQ(on_.task_ends(a_, {job, 1, on_.life()}, granted(a_), 0), CommitOutcome::kCommitted);
  }
  EXPECT_EQ(on_.job(job).state, JobState::kSucceeded);
}

TEST_F(StateLifeTest, ARestartIsNoNewLife) {
  const JobId job = running(gang());
  on_.restart_master();
  a_ = on_.connect("gpu-a", 1, "", {{job, 1, on_.life()}});
  EXPECT_THAT(on_.take<RegisteredMessage>(a_).at(0).unknown, IsEmpty());
  on_.exits(a_, job, 0, 0);
  EXPECT_EQ(on_.job(job).state, JobState::kSucceeded);
}

TEST_F(StateLifeTest, AClientThatMeansAJobOfAnotherLifeIsRefused) {
  on_.begin_new_life();
  const JobId job = *on_.submit(gang());
  EXPECT_EQ(on_.job(job).life, on_.life());
  EXPECT_EQ(*on_.state.find(job, on_.life()), job);
  EXPECT_EQ(*on_.state.find(job, 0), job);
  const Result<JobId> other = on_.state.find(job, on_.life() + 1);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.failure().kind, ErrorKind::kStale);
}

// --- Rows that cannot be read ------------------------------------------------------------------

TEST_F(StateLifeTest, AJobWithADamagedRowFailsAndSaysWhy) {
  const JobId job = running(gang(/*restarts=*/5));
  const JobId other = *on_.submit(gang());
  on_.kept_jobs().at(job).damage = "a value of its rendezvous store";
  on_.restart_on_what_was_kept();
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  EXPECT_THAT(on_.job(job).reason, HasSubstr("cannot be read: a value of its rendezvous store"));
  a_ = on_.connect("gpu-a", 1, "", {{job, 1, on_.life()}});
  EXPECT_THAT(on_.take<StopRanksMessage>(a_), SizeIs(1));
  on_.exits(a_, job, 0, 0, SIGTERM, true);
  EXPECT_EQ(on_.job(job).state, JobState::kFailed) << "whatever its budgets";
  EXPECT_EQ(on_.job(job).failure->failure_class, FailureClass::kStateDamaged);
  EXPECT_EQ(on_.job(other).state, JobState::kStarting);
}

TEST_F(StateLifeTest, TasksThatCannotBeReadEndTheirArray) {
  const JobId job = *on_.submit(array(3));
  on_.kept_jobs().at(job).damage = "a task";
  on_.restart_on_what_was_kept();
  EXPECT_EQ(on_.job(job).state, JobState::kFailed);
  EXPECT_THAT(on_.job(job).reason, HasSubstr("a task"));
}

// --- Inputs that cannot be had -----------------------------------------------------------------

TEST_F(StateLifeTest, ATaskWhoseInputIsAwayWaitsAndIsGrantedAgain) {
  const JobId job = *on_.submit(array(1));
  const LaunchId launch{job, 1, on_.life()};
  on_.state.input_missing(launch, granted(a_), {ErrorKind::kUnavailable, "no descriptor"},
                          on_.now());
  on_.pass(500, {a_});
  EXPECT_THAT(on_.take<GrantTasksMessage>(a_), IsEmpty()) << "not at once";
  on_.pass(1'500, {a_});
  const Lease again = granted(a_);
  EXPECT_EQ(on_.task_ends(a_, launch, again, 0), CommitOutcome::kCommitted);
  EXPECT_EQ(on_.job(job).state, JobState::kSucceeded) << "and no budget was touched";
}

TEST_F(StateLifeTest, ATaskWhoseInputIsGoneIsGivenUpWithThatReason) {
  const JobId job = *on_.submit(array(1));
  for (int attempt = 0; attempt < 3; ++attempt) {
    const LaunchId launch{job, 1, on_.life()};
    on_.state.input_missing(launch, granted(a_), {ErrorKind::kCorrupt, "its row is damaged"},
                            on_.now());
    on_.pass(60'000, {a_});
  }
  EXPECT_EQ(on_.job(job).state, JobState::kFailed);
  EXPECT_THAT(on_.job(job).reason, HasSubstr("its row is damaged"));
}

// --- A disk that takes nothing -----------------------------------------------------------------

TEST_F(StateLifeTest, NobodyIsBlamedForWhatHeWasNotTold) {
  const JobId job = *on_.submit(gang());
  for (int second = 0; second < 100; ++second) {
    on_.state.postpone(milliseconds(1'000));
    on_.pass(1'000, {a_});
  }
  EXPECT_EQ(on_.job(job).state, JobState::kStarting);
  on_.prepared(a_, job);
  EXPECT_EQ(on_.job(job).state, JobState::kRunning);
}

TEST_F(StateLifeTest, AWithdrawnJobEndsAndItsKeyIsFree) {
  const JobId job = *on_.submit(1, false, "key");
  on_.state.withdraw(job, "it could not be written down", on_.now());
  on_.exits(a_, job, 0, 0, SIGTERM, true);
  on_.pass(30'000, {a_});
  EXPECT_EQ(on_.job(job).state, JobState::kStopped);
  EXPECT_THAT(on_.job(job).reason, HasSubstr("could not be written down"));
  EXPECT_NE(*on_.submit(1, false, "key"), job);
}

TEST_F(StateLifeTest, TheKeyOfAWithdrawnJobIsNotItsOwnAnyMore) {
  ClusterOptions options;
  options.keep_ended_jobs = 0;
  testing::StateDriver on(options);
  const JobId withdrawn = *on.submit(1, false, "key");
  on.state.withdraw(withdrawn, "it could not be written down", on.now());
  EXPECT_FALSE(on.state.knows_submission("key"));
  const JobId job = *on.submit(1, false, "key");
  on.pass(1'000);
  EXPECT_EQ(on.state.status(withdrawn), nullptr) << "forgotten";
  EXPECT_EQ(*on.submit(1, false, "key"), job);
}

TEST_F(StateLifeTest, ARestartGivesAWithdrawnJobItsKeyNotBack) {
  const JobId withdrawn = *on_.submit(1, false, "key");
  on_.state.withdraw(withdrawn, "it could not be written down", on_.now());
  on_.exits(a_, withdrawn, 0, 0, SIGTERM, true);
  on_.pass(30'000, {a_});
  on_.restart_master();
  EXPECT_NE(*on_.submit(1, false, "key"), withdrawn);
}

// What its tasks hold is in use until their worker says that they have ended, whoever asks.
TEST_F(StateLifeTest, AnArrayThatIsBeingStoppedIsSoAcrossARestart) {
  const JobId job = *on_.submit(array(1));
  const Lease lease = granted(a_);
  const LaunchId launch{job, 1, on_.life()};
  EXPECT_TRUE(on_.state.stop(job, milliseconds(20'000), false, on_.now()));
  on_.pass(1'000, {a_});
  ASSERT_EQ(on_.job(job).state, JobState::kStopping);
  on_.restart_master();
  on_.pass(2'000);
  EXPECT_EQ(on_.job(job).state, JobState::kStopping) << "its worker has not come back yet";
  a_ = on_.connect("gpu-a", 1, "", {}, {{launch, lease, lease.epoch}});
  EXPECT_THAT(on_.take<TaskAnswersMessage>(a_), IsEmpty()) << "it has its grace";
  on_.pass(1'000, {a_});
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  on_.task_ends(a_, launch, lease, 0);
  on_.pass(1'000, {a_});
  EXPECT_EQ(on_.job(job).state, JobState::kStopped);
}

// --- Wall clocks step --------------------------------------------------------------------------

TEST_F(StateLifeTest, ATimeLimitIsCountedByNoClockThatAnybodySets) {
  constexpr int64_t kDay = 24LL * 3600 * 1000;
  for (const int64_t step : {kDay, -kDay}) {
    JobSpec spec = gang();
    spec.time_limit = milliseconds(60'000);
    const JobId job = running(spec);
    on_.pass(40'000, {a_});
    on_.step_wall_clock(step);
    on_.restart_master();
    a_ = on_.connect("gpu-a", 1, "", {{job, 1, on_.life()}});
    on_.pass(19'000, {a_});
    EXPECT_EQ(on_.job(job).state, JobState::kRunning) << step;
    on_.pass(2'000, {a_});
    EXPECT_EQ(on_.job(job).state, JobState::kStopping) << step;
    on_.exits(a_, job, 0, 0, SIGTERM, true);
    EXPECT_EQ(on_.job(job).exit_code, 124) << step;
  }
}

TEST_F(StateLifeTest, WhatWasJustLostMayStillReturnWhateverTheWallClockSays) {
  on_.disconnect(a_, /*goodbye=*/true);
  on_.step_wall_clock(24LL * 3600 * 1000);
  JobSpec spec = gang();
  spec.wait_for_nodes = false;
  EXPECT_TRUE(on_.submit(spec));
}

TEST_F(StateLifeTest, AWaitBeforeTheNextAttemptOutlivesTheMaster) {
  ClusterOptions options;
  options.restart_delay = milliseconds(30'000);
  testing::StateDriver on(options);
  SessionId a = on.connect("gpu-a", 1);
  const JobId job = *on.submit(gang(/*restarts=*/3));
  on.prepared(a, job);
  on.says(a, job, 0, RankSpawned{1});
  on.disconnect(a, /*goodbye=*/false);
  on.pass(40'000);
  ASSERT_EQ(on.job(job).state, JobState::kPending);
  on.restart_master();
  a = on.connect("gpu-a", 1, "second");
  on.pass(5'000, {a});
  EXPECT_EQ(on.job(job).state, JobState::kPending) << "it waits between 15 and 30 s";
  on.pass(30'000, {a});
  EXPECT_EQ(on.job(job).state, JobState::kStarting);
}

}  // namespace
}  // namespace longhaul

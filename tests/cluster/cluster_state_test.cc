#include "cluster/cluster_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <set>

#include "tests/cluster/state_driver.h"

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

// Two workers of two slots each, "gpu-a" and "gpu-b".
class ClusterStateTest : public ::testing::Test {
 protected:
  // A job of four ranks, launched: 0 and 1 on gpu-a, 2 and 3 on gpu-b, all joined.
  JobId running() {
    const JobId job = *on_.submit(4);
    on_.prepared(a_, job);
    on_.prepared(b_, job);
    for (Rank rank = 0; rank < 4; ++rank) {
      on_.says(of(rank), job, rank, RankSpawned{100 + rank});
      on_.says(of(rank), job, rank, RankJoined{});
    }
    EXPECT_EQ(on_.job(job).state, JobState::kRunning);
    return job;
  }
  SessionId of(Rank rank) const { return rank < 2 ? a_ : b_; }
  void stopped_by_us(const JobId& job, const std::vector<Rank>& ranks) {
    for (const Rank rank : ranks) on_.exits(of(rank), job, rank, 0, SIGTERM, true);
  }

  testing::StateDriver on_;
  SessionId a_ = on_.connect("gpu-a", 2);
  SessionId b_ = on_.connect("gpu-b", 2);
};

TEST_F(ClusterStateTest, AJobRunsFromPlacementToSuccess) {
  const JobId job = *on_.submit(4);
  EXPECT_EQ(on_.job(job).state, JobState::kStarting);
  const auto asked_a = on_.take<PrepareMessage>(a_);
  const auto asked_b = on_.take<PrepareMessage>(b_);
  ASSERT_THAT(asked_a, SizeIs(1));
  ASSERT_THAT(asked_b, SizeIs(1));
  EXPECT_TRUE(asked_a[0].want_port) << "rank 0 is there";
  EXPECT_FALSE(asked_b[0].want_port);

  on_.prepared(b_, job);
  EXPECT_THAT(on_.take<LaunchMessage>(b_), SizeIs(0)) << "all or none";
  on_.prepared(a_, job);
  const auto launch_a = on_.take<LaunchMessage>(a_);
  const auto launch_b = on_.take<LaunchMessage>(b_);
  ASSERT_THAT(launch_a, SizeIs(1));
  ASSERT_THAT(launch_b, SizeIs(1));
  EXPECT_THAT(launch_a[0].ranks, ElementsAre(0, 1));
  EXPECT_THAT(launch_b[0].ranks, ElementsAre(2, 3));
  EXPECT_EQ(launch_b[0].node_rank, 1);
  EXPECT_EQ(launch_b[0].node_count, 2);
  EXPECT_EQ(launch_b[0].master_addr, "10.0.0.1");
  EXPECT_EQ(launch_b[0].master_port, 29'500);
  EXPECT_EQ(on_.job(job).state, JobState::kRunning);

  for (Rank rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(on_.job(job).state, JobState::kRunning);
    on_.exits(of(rank), job, rank, 0);
  }
  EXPECT_EQ(on_.job(job).state, JobState::kSucceeded);
  EXPECT_EQ(on_.job(job).exit_code, 0);
  EXPECT_FALSE(on_.state.has_active_jobs());
}

TEST_F(ClusterStateTest, AKilledRankFailsTheJobAndStopsTheOthers) {
  const JobId job = running();
  on_.store(of(0), 1, job, 0, {StoreOperation::kGet, {"x"}, {}, 0, milliseconds(60'000)});
  on_.exits(b_, job, 2, 0, SIGKILL);
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  for (const SessionId session : {a_, b_}) {
    const auto stops = on_.take<StopRanksMessage>(session);
    ASSERT_THAT(stops, SizeIs(1));
    EXPECT_EQ(stops[0].grace, milliseconds(5000));
    EXPECT_THAT(stops[0].reason, HasSubstr("rank 2 on gpu-b"));
  }
  const auto told = on_.take<StoreAnswerMessage>(a_);
  ASSERT_THAT(told, SizeIs(1)) << "who waits in the store hears it at once";
  EXPECT_EQ(told[0].result.failure->kind, ErrorKind::kPeerLost);

  stopped_by_us(job, {0, 1, 3});
  const JobStatus& status = on_.job(job);
  EXPECT_EQ(status.state, JobState::kFailed);
  EXPECT_EQ(status.exit_code, 137);
  EXPECT_EQ(status.failure->rank, 2);
  EXPECT_THAT(status.failure->victims, ElementsAre(0, 1, 3));
  EXPECT_THAT(status.failure->last_lines, ElementsAre("last words"));
  EXPECT_FALSE(status.ranks[2].victim);
  EXPECT_TRUE(status.ranks[3].victim);
}

// Two programs one after the other in one rank, or two Worlds: what the first said counts no more.
TEST_F(ClusterStateTest, ARankThatComesAgainIsNeededAgain) {
  const JobId job = running();
  for (Rank rank = 0; rank < 4; ++rank) {
    on_.says(of(rank), job, rank, RankLeft{});
    on_.says(of(rank), job, rank, RankJoined{});
  }
  RankProgress waits;
  waits.collective_sequence = 5;
  waits.operation = "all-reduce";
  on_.exits(a_, job, 1, 0);
  on_.pass(100, {a_, b_});
  on_.says(of(0), job, 0, waits);
  on_.pass(5'000, {a_, b_});
  EXPECT_EQ(on_.job(job).state, JobState::kStopping) << "rank 1 had left its first World only";
  EXPECT_EQ(on_.job(job).failure->rank, 1);
  EXPECT_EQ(on_.job(job).failure->failure_class, FailureClass::kEarlyExit);
}

TEST_F(ClusterStateTest, AFaultOfAWorldThatIsOverIsNoFaultOfTheNext) {
  const JobId job = running();
  on_.says(b_, job, 2, RankFault{ErrorKind::kInternal, "half way", -1});
  on_.says(b_, job, 2, RankJoined{});
  on_.pass(10'000, {a_, b_});
  EXPECT_EQ(on_.job(job).state, JobState::kRunning) << on_.job(job).reason;
  on_.exits(a_, job, 1, 7);
  on_.pass(10'000, {a_, b_});
  EXPECT_EQ(on_.job(job).failure->rank, 1) << on_.job(job).failure->message;
}

TEST_F(ClusterStateTest, AProgramThatOneWorkerCannotStart) {
  const JobId job = *on_.submit(4);
  on_.prepared(a_, job);
  on_.prepared(b_, job, "./train: no such file");
  const JobStatus& status = on_.job(job);
  EXPECT_EQ(status.state, JobState::kFailed);
  EXPECT_EQ(status.failure->failure_class, FailureClass::kLaunch);
  EXPECT_EQ(status.failure->worker, "gpu-b");
  EXPECT_EQ(status.exit_code, 127);
  EXPECT_THAT(status.failure->victims, SizeIs(0)) << "none was started";
  EXPECT_EQ(status.reason, "worker gpu-b cannot start './train': ./train: no such file");
  EXPECT_THAT(on_.take<LaunchMessage>(a_), SizeIs(0));
}

TEST_F(ClusterStateTest, AWorkerThatNeverAnswersIsNamed) {
  const JobId job = *on_.submit(4);
  on_.prepared(a_, job);
  on_.pass(30'000, {a_, b_});
  EXPECT_EQ(on_.job(job).state, JobState::kFailed);
  EXPECT_EQ(on_.job(job).failure->worker, "gpu-b");
}

TEST_F(ClusterStateTest, AUserStopsAJobInEveryState) {
  const JobId pending = *on_.submit(5);
  EXPECT_EQ(on_.job(pending).state, JobState::kPending);
  on_.stop(pending);
  EXPECT_EQ(on_.job(pending).state, JobState::kStopped);

  const JobId starting = *on_.submit(4);
  on_.stop(starting);
  EXPECT_EQ(on_.job(starting).state, JobState::kStopped);

  const JobId job = running();
  on_.take<StopRanksMessage>(a_);
  on_.stop(job);
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  on_.stop(job, /*force=*/true);
  const auto stops = on_.take<StopRanksMessage>(a_);
  ASSERT_THAT(stops, SizeIs(2));
  EXPECT_EQ(stops[1].grace, milliseconds(0));
  stopped_by_us(job, {0, 1, 2, 3});
  EXPECT_EQ(on_.job(job).state, JobState::kStopped);
  EXPECT_EQ(on_.job(job).exit_code, 143);
  EXPECT_FALSE(on_.job(job).failure);
  on_.stop(job);
  EXPECT_EQ(on_.job(job).state, JobState::kStopped) << "what has ended stays";
}

TEST_F(ClusterStateTest, WaitsWithAReasonAndStartsWhenThereIsRoom) {
  const JobId first = running();
  const JobId second = *on_.submit(3);
  EXPECT_EQ(on_.job(second).state, JobState::kPending);
  EXPECT_EQ(on_.job(second).reason,
            "needs 3 slots; 2 workers are ready with 0 free of 4: gpu-a 0, gpu-b 0");
  const JobId third = *on_.submit(1);
  EXPECT_THAT(on_.job(third).reason, StartsWith("waits behind j2, which needs 3 slots"));
  for (Rank rank = 0; rank < 4; ++rank) on_.exits(of(rank), first, rank, 0);
  EXPECT_EQ(on_.job(second).state, JobState::kStarting);
  EXPECT_EQ(on_.job(third).state, JobState::kStarting);
}

TEST_F(ClusterStateTest, AJobLargerThanTheClusterHoldsNobodyUp) {
  const JobId large = *on_.submit(9);
  EXPECT_THAT(on_.job(large).reason, HasSubstr("larger than all workers together"));
  EXPECT_EQ(on_.job(*on_.submit(2)).state, JobState::kStarting);
  on_.connect("gpu-c", 8);
  EXPECT_EQ(on_.job(large).state, JobState::kStarting);
}

TEST_F(ClusterStateTest, AskedNotToWaitItFailsWithTheNumbers) {
  const JobId job = *on_.submit(5, /*fail_when_full=*/true);
  EXPECT_EQ(on_.job(job).state, JobState::kFailed);
  EXPECT_EQ(on_.job(job).failure->failure_class, FailureClass::kNoRoom);
  EXPECT_THAT(on_.job(job).reason, HasSubstr("4 free of 4"));
  EXPECT_EQ(on_.job(job).exit_code, 1);
  EXPECT_EQ(on_.job(*on_.submit(4, true)).state, JobState::kStarting);
}

TEST_F(ClusterStateTest, TheSameKeySubmitsOnce) {
  EXPECT_EQ(*on_.submit(1, false, "key"), *on_.submit(1, false, "key"));
  EXPECT_NE(*on_.submit(1, false, "key"), *on_.submit(1, false, "other"));
}

TEST_F(ClusterStateTest, JobsAreFoundByIdNamePrefixAndLast) {
  EXPECT_THAT(on_.state.find("last").failure().message, HasSubstr("none yet"));
  JobSpec spec;
  spec.command = {"x"};
  for (int i = 0; i < 12; ++i) {
    spec.name = i % 2 == 0 ? "even" : "";
    const Result<JobId> job = on_.submit(spec);
    ASSERT_TRUE(job);
    // A name is free again when its job has ended.
    on_.stop(*job);
    on_.pass(60'000, {a_, b_});
  }
  EXPECT_EQ(*on_.state.find("last"), "j12");
  EXPECT_EQ(*on_.state.find("even"), "j11");
  EXPECT_EQ(*on_.state.find("j1"), "j1") << "an id is not a prefix";
  EXPECT_THAT(on_.state.find("j").failure().message, HasSubstr("may be any of"));
  EXPECT_THAT(on_.state.find("").failure().message, HasSubstr("no job ''"));
  EXPECT_THAT(on_.state.find("eve").failure().message, HasSubstr("no job 'eve'"));
}

TEST_F(ClusterStateTest, ANameIsOneJobsUntilThatHasEnded) {
  JobSpec spec;
  spec.name = "nightly";
  spec.ranks = 4;
  const JobId job = *on_.submit(spec);
  const Result<JobId> second = on_.submit(spec);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.failure().kind, ErrorKind::kInvalid);
  EXPECT_THAT(second.failure().message, HasSubstr("job " + job + " is called 'nightly'"));
  on_.stop(job);
  on_.prepared(a_, job);
  on_.pass(60'000, {a_, b_});
  EXPECT_TRUE(has_ended(on_.job(job).state));
  EXPECT_TRUE(on_.submit(spec));
}

TEST_F(ClusterStateTest, BadSpecsAreRefused) {
  EXPECT_FALSE(on_.submit(0));
  EXPECT_FALSE(on_.submit(-1));
  EXPECT_FALSE(on_.submit(70'000));
  EXPECT_FALSE(on_.state.submit(JobSpec(), "", on_.now()));
}

TEST_F(ClusterStateTest, ALostWorkerFailsItsJob) {
  const JobId job = running();
  on_.disconnect(b_);
  on_.says(a_, job, 0, RankFault{ErrorKind::kPeerLost, "all-reduce of bucket 3", 2});
  on_.exits(a_, job, 0, 1);
  on_.pass(4000, {a_});
  EXPECT_EQ(on_.job(job).state, JobState::kRunning) << "silence is not failure";
  on_.pass(1500, {a_});
  on_.exits(a_, job, 1, 1);
  const JobStatus& status = on_.job(job);
  EXPECT_EQ(status.state, JobState::kFailed);
  EXPECT_EQ(status.failure->failure_class, FailureClass::kWorkerLost);
  EXPECT_EQ(status.failure->worker, "gpu-b");
  EXPECT_FALSE(status.failure->rank);
  EXPECT_EQ(status.ranks[2].state, RankState::kLost);
}

TEST_F(ClusterStateTest, AWorkerThatComesBackWithinItsLeaseChangesNothing) {
  const JobId job = running();
  on_.disconnect(b_);
  on_.pass(4000, {a_});
  b_ = on_.connect("gpu-b", 2, "", {{job, 1}});
  EXPECT_THAT(on_.take<RegisteredMessage>(b_).at(0).unknown, SizeIs(0));
  on_.pass(20'000, {a_, b_});
  EXPECT_EQ(on_.job(job).state, JobState::kRunning);
  for (Rank rank = 0; rank < 4; ++rank) on_.exits(of(rank), job, rank, 0);
  EXPECT_EQ(on_.job(job).state, JobState::kSucceeded);
}

TEST_F(ClusterStateTest, WhatALostWorkerReportsLaterIsRefused) {
  const JobId job = running();
  on_.pass(6000, {a_});
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  EXPECT_TRUE(on_.closed(b_));
  b_ = on_.connect("gpu-b", 2, "", {{job, 1}});
  const RegisteredMessage registered = on_.take<RegisteredMessage>(b_).at(0);
  EXPECT_THAT(registered.over, ElementsAre(LaunchId{job, 1}));
  EXPECT_THAT(registered.unknown, SizeIs(0));
  on_.exits(b_, job, 2, 0);
  EXPECT_EQ(on_.job(job).ranks[2].state, RankState::kLost);
}

TEST_F(ClusterStateTest, WhatRanksOfALostWorkerPrintedIsTaken) {
  const JobId job = running();
  on_.pass(6000, {a_});
  EXPECT_TRUE(on_.prints(b_, {job, 1}, 2)) << "its stream is about to be closed";
  EXPECT_EQ(on_.state.worker("gpu-b")->state, WorkerState::kLost) << "which is no sign of life";
  b_ = on_.connect("gpu-b", 2, "", {{job, 1}});
  EXPECT_TRUE(on_.prints(b_, {job, 1}, 2));
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  EXPECT_EQ(on_.job(job).ranks[2].state, RankState::kLost);
}

TEST_F(ClusterStateTest, WhatRanksPrintedIsTakenWhileTheirJobIsKept) {
  ClusterOptions options;
  options.keep_ended_jobs = 1;
  on_.begin_again(options);
  a_ = on_.connect("gpu-a", 2);
  b_ = on_.connect("gpu-b", 2);
  const JobId job = running();
  on_.pass(6000, {a_});
  stopped_by_us(job, {0, 1});
  ASSERT_EQ(on_.job(job).state, JobState::kFailed);
  on_.restart_master();
  const auto connected = [&] {
    b_ = on_.connect("gpu-b", 2, "", {{job, 1}});
    return on_.take<RegisteredMessage>(b_).at(0);
  };
  EXPECT_THAT(connected().over, ElementsAre(LaunchId{job, 1}));
  EXPECT_TRUE(on_.prints(b_, {job, 1}, 2));
  const SessionId c = on_.connect("gpu-c", 2, "", {{job, 1}});
  EXPECT_THAT(on_.take<RegisteredMessage>(c).at(0).unknown, ElementsAre(LaunchId{job, 1}))
      << "it never had a rank of it";

  // Another one ends, and only one is kept.
  const JobId next = *on_.submit(2);
  on_.stop(next);
  on_.pass(40'000, {b_, c});
  ASSERT_EQ(on_.state.status(job), nullptr);
  EXPECT_FALSE(on_.prints(b_, {job, 1}, 2));
  const RegisteredMessage registered = connected();
  EXPECT_THAT(registered.unknown, ElementsAre(LaunchId{job, 1}));
  EXPECT_THAT(registered.over, SizeIs(0));
}

TEST_F(ClusterStateTest, AReconnectedWorkerThatMissesTheLaunchMayStillReportIt) {
  const JobId job = running();
  on_.disconnect(b_);
  on_.exits(a_, job, 0, 0);
  on_.exits(a_, job, 1, 0);
  b_ = on_.connect("gpu-b", 2);  // both ranks ended meanwhile; their reports follow
  on_.exits(b_, job, 2, 0);
  on_.exits(b_, job, 3, 0);
  EXPECT_EQ(on_.job(job).state, JobState::kSucceeded);
}

TEST_F(ClusterStateTest, AReconnectedWorkerThatMissesTheLaunchForGood) {
  const JobId job = running();
  on_.disconnect(b_);
  b_ = on_.connect("gpu-b", 2);
  on_.pass(2500, {a_, b_});
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  EXPECT_THAT(on_.job(job).reason, HasSubstr("it came back and no longer runs them"));
}

TEST_F(ClusterStateTest, ARestartedWorkerIsLostAtOnce) {
  const JobId job = running();
  on_.disconnect(b_);
  on_.connect("gpu-b", 2, "gpu-b-second");
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  EXPECT_THAT(on_.job(job).reason, HasSubstr("it was restarted"));
}

TEST_F(ClusterStateTest, AWorkerThatShutsDownStopsItsRanksAndSaysSo) {
  const JobId job = running();
  stopped_by_us(job, {2, 3});
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  on_.disconnect(b_, /*goodbye=*/true);
  stopped_by_us(job, {0, 1});
  EXPECT_EQ(on_.job(job).state, JobState::kFailed);
  EXPECT_EQ(on_.job(job).failure->failure_class, FailureClass::kWorkerLost);
  EXPECT_THAT(on_.job(job).reason, HasSubstr("shutting down"));
}

TEST_F(ClusterStateTest, AStopThatALostStreamAteIsSaidAgain) {
  const JobId job = running();
  on_.disconnect(b_);
  on_.stop(job);
  b_ = on_.connect("gpu-b", 2, "", {{job, 1}});
  EXPECT_THAT(on_.take<StopRanksMessage>(b_), SizeIs(1));
}

TEST_F(ClusterStateTest, RanksThatAreNeverReportedEndAnyway) {
  const JobId job = running();
  on_.stop(job);
  on_.take<StopRanksMessage>(a_);
  on_.pass(15'000, {a_, b_});
  EXPECT_THAT(on_.take<StopRanksMessage>(a_), SizeIs(1)) << "SIGKILL is asked for";
  on_.pass(10'500, {a_, b_});
  EXPECT_EQ(on_.job(job).state, JobState::kStopped);
}

TEST_F(ClusterStateTest, StrangersAndOldGenerationsAreNotHeard) {
  const JobId job = running();
  on_.exits(a_, job, 3, 1);  // not its rank
  on_.says(b_, job, 3, RankExit{1, 0, false, "", {}, ""}, /*generation=*/2);
  on_.exits(b_, job, 99, 1);
  on_.exits(b_, job, -1, 1);
  on_.exits(77, job, 3, 1);  // not a stream of anybody
  EXPECT_TRUE(on_.prints(b_, {job, 1}, 3));
  EXPECT_FALSE(on_.prints(a_, {job, 1}, 3));
  EXPECT_FALSE(on_.prints(b_, {job, 2}, 3));
  EXPECT_FALSE(on_.prints(b_, {job, 1}, 99));
  EXPECT_FALSE(on_.prints(b_, {job, 1}, -1));
  EXPECT_FALSE(on_.prints(b_, {"j99", 1}, 3));
  EXPECT_FALSE(on_.prints(77, {job, 1}, 3));
  on_.pass(1000, {a_, b_});
  EXPECT_EQ(on_.job(job).state, JobState::kRunning);
  on_.store(b_, 5, "j99", 0, {StoreOperation::kCheck, {"x"}, {}, 0, {}});
  EXPECT_EQ(on_.take<StoreAnswerMessage>(b_).at(0).result.failure->kind, ErrorKind::kStale);
}

TEST_F(ClusterStateTest, RepeatedReportsChangeNothing) {
  const JobId job = running();
  on_.says(a_, job, 0, RankLeft{});
  on_.says(a_, job, 0, RankSpawned{999});
  // What is sent again after a reconnect comes in its order.
  on_.says(a_, job, 0, RankJoined{});
  on_.says(a_, job, 0, RankLeft{});
  EXPECT_EQ(on_.job(job).ranks[0].state, RankState::kLeft);
  EXPECT_EQ(on_.job(job).ranks[0].pid, 100);
  on_.exits(a_, job, 0, 0);
  on_.exits(a_, job, 0, 1);
  EXPECT_EQ(on_.job(job).ranks[0].exit->exit_code, 0);
}

TEST_F(ClusterStateTest, OldJobsAreForgotten) {
  ClusterOptions options;
  options.keep_ended_jobs = 3;
  testing::StateDriver on(options);
  for (int i = 0; i < 10; ++i) on.stop(*on.submit(1));
  on.pass(1);
  EXPECT_THAT(on.state.list(true), SizeIs(3));
  EXPECT_EQ(on.state.list(true)[0]->id, "j8");
}

TEST_F(ClusterStateTest, TheMasterEndsAllItsJobs) {
  const JobId job = running();
  const JobId pending = *on_.submit(4);
  on_.state.stop_all("the master is shutting down", on_.now());
  EXPECT_EQ(on_.job(pending).state, JobState::kStopped);
  stopped_by_us(job, {0, 1, 2, 3});
  EXPECT_FALSE(on_.state.has_active_jobs());
  EXPECT_EQ(on_.job(job).reason, "the master is shutting down");
}

TEST_F(ClusterStateTest, NodesShowWhatIsUsed) {
  const JobId job = *on_.submit(3);
  const auto nodes = on_.state.nodes();
  ASSERT_THAT(nodes, SizeIs(2));
  EXPECT_EQ(nodes[0].used.slots + nodes[1].used.slots, 3);
  EXPECT_THAT(nodes[0].jobs, ElementsAre(job));
}

// --- Forming the gang again --------------------------------------------------------------------

class RestartTest : public ClusterStateTest {
 protected:
  // Four ranks, launched, in their present generation.
  void start(const JobId& job) {
    const Generation generation = on_.job(job).generation;
    for (const RankRecord& rank : std::vector(on_.job(job).ranks))
      prepared_.insert(session(rank.worker));
    for (const SessionId one : prepared_) on_.prepared(one, job);
    prepared_.clear();
    for (const RankRecord& rank : std::vector(on_.job(job).ranks)) {
      on_.says(session(rank.worker), job, rank.rank, RankSpawned{100}, generation);
    }
    ASSERT_EQ(on_.job(job).state, JobState::kRunning) << on_.job(job).reason;
  }
  SessionId session(const WorkerId& worker) const {
    return worker == "gpu-a" ? a_ : worker == "gpu-b" ? b_ : c_;
  }
  // One rank dies, the others are stopped.
  void die(const JobId& job, Rank culprit) {
    const Generation generation = on_.job(job).generation;
    const std::vector<RankRecord> ranks = on_.job(job).ranks;
    on_.exits(session(ranks[static_cast<size_t>(culprit)].worker), job, culprit, 7, 0, false,
              generation);
    on_.pass(400, {a_, b_});
    ASSERT_EQ(on_.job(job).state, JobState::kStopping);
    for (const RankRecord& rank : ranks) {
      if (rank.rank == culprit) continue;
      on_.exits(session(rank.worker), job, rank.rank, 0, SIGTERM, true, generation);
    }
  }
  static JobSpec four(int restarts, int node_restarts = 0) {
    JobSpec spec;
    spec.ranks = 4;
    spec.max_restarts = restarts;
    spec.max_node_restarts = node_restarts;
    return spec;
  }

  SessionId c_ = 0;
  std::set<SessionId> prepared_;
};

TEST_F(RestartTest, AFailedGangIsFormedAgainUntilItsBudgetIsSpent) {
  const JobId job = *on_.submit(four(1));
  start(job);
  die(job, 2);
  EXPECT_EQ(on_.job(job).state, JobState::kPending);
  EXPECT_EQ(on_.job(job).generation, 2U);
  EXPECT_THAT(on_.job(job).reason, HasSubstr("starts again: rank 2 on gpu-b"));
  on_.pass(1000, {a_, b_});
  on_.take<LaunchMessage>(a_);
  start(job);
  const auto launched = on_.take<LaunchMessage>(a_);
  ASSERT_THAT(launched, SizeIs(1));
  EXPECT_EQ(launched[0].launch.generation, 2U);
  EXPECT_EQ(launched[0].restarts, 1);
  die(job, 1);
  EXPECT_EQ(on_.job(job).state, JobState::kFailed);
  EXPECT_EQ(on_.job(job).exit_code, 7);
  ASSERT_THAT(on_.job(job).earlier_failures, SizeIs(1));
  EXPECT_EQ(on_.job(job).earlier_failures[0].rank, 2);
  EXPECT_EQ(on_.job(job).failure->rank, 1);
}

TEST_F(RestartTest, ALostWorkerHasABudgetOfItsOwnAndSurvivorsKeepTheirNodeRank) {
  JobSpec spec = four(0, 1);
  spec.max_ranks_per_worker = 2;
  const JobId job = *on_.submit(spec);
  start(job);
  const WorkerId first = on_.job(job).ranks[0].worker;
  const WorkerId second = on_.job(job).ranks[2].worker;
  ASSERT_EQ(first, "gpu-a");
  on_.disconnect(a_);
  on_.pass(5600, {b_});
  for (const Rank rank : {2, 3}) on_.exits(b_, job, rank, 0, SIGTERM, true);
  EXPECT_EQ(on_.job(job).state, JobState::kPending);
  c_ = on_.connect("gpu-c", 2);
  on_.pass(1000, {b_, c_});
  start(job);
  EXPECT_EQ(on_.job(job).ranks[0].worker, "gpu-c") << "the new one takes the lost one's place";
  EXPECT_EQ(on_.job(job).ranks[2].worker, second);
  EXPECT_EQ(on_.job(job).node_restarts, 1);
  EXPECT_EQ(on_.job(job).restarts, 0);
}

TEST_F(RestartTest, AWorkerThatIsToldToStopCountsAgainstNoFault) {
  JobSpec spec = four(0, 0);
  spec.max_preemptions = 1;
  const JobId job = *on_.submit(spec);
  start(job);
  const auto preempt = [&](Generation generation) {
    for (const RankRecord& rank : std::vector(on_.job(job).ranks)) {
      RankExit exit{143, SIGTERM, true, "", {}, ""};
      exit.preempted = session(rank.worker) == b_;
      if (exit.preempted) on_.says(b_, job, rank.rank, exit, generation);
    }
    on_.pass(400, {a_, b_});
    for (const RankRecord& rank : std::vector(on_.job(job).ranks)) {
      if (session(rank.worker) != b_) {
        on_.exits(a_, job, rank.rank, 0, SIGTERM, true, generation);
      }
    }
  };
  preempt(1);
  EXPECT_EQ(on_.job(job).state, JobState::kPending);
  EXPECT_EQ(on_.job(job).preemptions, 1);
  EXPECT_EQ(on_.job(job).restarts + on_.job(job).node_restarts, 0);
  on_.pass(1000, {a_, b_});
  start(job);
  preempt(2);
  EXPECT_EQ(on_.job(job).state, JobState::kFailed) << "the budget is spent";
  EXPECT_EQ(on_.job(job).failure->failure_class, FailureClass::kPreempted);
  EXPECT_EQ(on_.job(job).failure->worker, "gpu-b");
}

TEST_F(RestartTest, MemoryThatRanOutHasABudgetOfItsOwn) {
  JobSpec spec = four(5);
  spec.max_oom_restarts = 1;
  const JobId job = *on_.submit(spec);
  for (const Generation generation : {1, 2}) {
    start(job);
    const RankRecord third = on_.job(job).ranks[2];
    RankExit exit{137, SIGKILL, false, "", {}, ""};
    exit.evidence.out_of_memory = "oom_kill of cgroup /jobs rose to 1 while it died";
    on_.says(session(third.worker), job, 2, exit, generation);
    for (const RankRecord& rank : std::vector(on_.job(job).ranks)) {
      if (rank.rank == 2) continue;
      on_.exits(session(rank.worker), job, rank.rank, 0, SIGTERM, true, generation);
    }
    EXPECT_EQ(on_.job(job).oom_restarts, 1);
    EXPECT_EQ(on_.job(job).state, generation == 1 ? JobState::kPending : JobState::kFailed);
    on_.pass(1000, {a_, b_});
  }
  EXPECT_EQ(on_.job(job).restarts, 0);
  EXPECT_EQ(on_.job(job).failure->failure_class, FailureClass::kOutOfMemory);
  EXPECT_EQ(on_.job(job).exit_code, 137);
}

TEST_F(RestartTest, AProgramWithoutOurLibraryIsAVictimByItsLastWords) {
  const JobId job = *on_.submit(four(0));
  start(job);
  RankExit victim{1, 0, false, "", {}, ""};
  victim.evidence.exception = "RuntimeError: Connection closed by peer [10.0.0.2]:4711";
  on_.says(session(on_.job(job).ranks[0].worker), job, 0, victim);
  on_.pass(1000, {a_, b_});
  EXPECT_EQ(on_.job(job).state, JobState::kRunning) << "somebody else must have begun it";
  on_.exits(session(on_.job(job).ranks[3].worker), job, 3, 7);
  on_.pass(400, {a_, b_});
  EXPECT_EQ(on_.job(job).failure->rank, 3);
}

TEST_F(RestartTest, AnElasticGangGoesOnWithFewerWorkers) {
  JobSpec spec = four(1, 1);
  spec.max_ranks_per_worker = 2;
  spec.min_nodes = 1;
  const JobId job = *on_.submit(spec);
  start(job);
  ASSERT_THAT(on_.job(job).ranks, SizeIs(4));
  on_.disconnect(a_);
  on_.pass(5600, {b_});
  for (const Rank rank : {2, 3}) on_.exits(b_, job, rank, 0, SIGTERM, true);
  on_.take<LaunchMessage>(b_);
  on_.pass(1000, {b_});
  start(job);
  EXPECT_THAT(on_.job(job).ranks, SizeIs(2));
  const auto launched = on_.take<LaunchMessage>(b_);
  ASSERT_THAT(launched, SizeIs(1));
  EXPECT_EQ(launched[0].spec.ranks, 2);
  EXPECT_EQ(launched[0].node_count, 1);
}

TEST_F(RestartTest, WhatAnOlderGenerationSaysIsNotHeard) {
  const JobId job = *on_.submit(four(1));
  start(job);
  die(job, 0);
  on_.pass(1000, {a_, b_});
  start(job);
  on_.exits(a_, job, 0, 9, 0, false, /*generation=*/1);
  on_.pass(1000, {a_, b_});
  EXPECT_EQ(on_.job(job).state, JobState::kRunning);
}

TEST_F(RestartTest, WhatAnOlderGenerationPrintedIsTaken) {
  const JobId job = *on_.submit(four(1));
  start(job);
  die(job, 0);
  b_ = on_.connect("gpu-b", 2, "", {{job, 1}});
  EXPECT_THAT(on_.take<RegisteredMessage>(b_).at(0).over, ElementsAre(LaunchId{job, 1}));
  EXPECT_TRUE(on_.prints(b_, {job, 1}, 3));
  on_.pass(1000, {a_, b_});
  start(job);
  on_.restart_master();
  b_ = on_.connect("gpu-b", 2, "", {{job, 1}, {job, 2}});
  EXPECT_THAT(on_.take<RegisteredMessage>(b_).at(0).over, ElementsAre(LaunchId{job, 1}));
  EXPECT_TRUE(on_.prints(b_, {job, 1}, 3));
  EXPECT_FALSE(on_.prints(b_, {job, 1}, 4)) << "no generation had such a rank";
  EXPECT_FALSE(on_.prints(77, {job, 1}, 3)) << "not a stream of anybody";
  EXPECT_EQ(on_.job(job).state, JobState::kRunning);
}

TEST_F(RestartTest, AStoppedJobStaysStopped) {
  const JobId job = *on_.submit(four(5));
  start(job);
  on_.exits(a_, job, 0, 7);
  on_.pass(400, {a_, b_});
  ASSERT_EQ(on_.job(job).state, JobState::kStopping);
  on_.stop(job);
  for (const Rank rank : {1, 2, 3}) {
    on_.exits(session(on_.job(job).ranks[static_cast<size_t>(rank)].worker), job, rank, 0, SIGTERM,
              true);
  }
  EXPECT_EQ(on_.job(job).state, JobState::kFailed);
}

TEST_F(RestartTest, AJobThatComesNoFurtherIsGivenUp) {
  const JobId job = *on_.submit(four(100));
  int attempts = 0;
  while (on_.job(job).state != JobState::kFailed && attempts < 50) {
    start(job);
    RankProgress progress;
    progress.step = 10;
    on_.says(a_, job, 0, progress, on_.job(job).generation);
    die(job, 3);
    while (on_.job(job).state == JobState::kPending) on_.pass(500, {a_, b_});
    ++attempts;
  }
  EXPECT_EQ(attempts, 1 + ClusterOptions().max_attempts_without_progress + 1);
}

TEST_F(RestartTest, TheTimeLimitEndsItWith124AlsoAcrossARestartOfTheMaster) {
  JobSpec spec = four(3);
  spec.time_limit = milliseconds(60'000);
  const JobId job = *on_.submit(spec);
  start(job);
  on_.pass(40'000, {a_, b_});
  on_.restart_master();
  a_ = on_.connect("gpu-a", 2, "", {{job, 1}});
  b_ = on_.connect("gpu-b", 2, "", {{job, 1}});
  on_.pass(19'000, {a_, b_});
  EXPECT_EQ(on_.job(job).state, JobState::kRunning);
  on_.pass(2'000, {a_, b_});
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  for (const Rank rank : {0, 1, 2, 3}) {
    on_.exits(session(on_.job(job).ranks[static_cast<size_t>(rank)].worker), job, rank, 0, SIGTERM,
              true);
  }
  EXPECT_EQ(on_.job(job).state, JobState::kFailed);
  EXPECT_EQ(on_.job(job).exit_code, 124);
  EXPECT_THAT(on_.job(job).reason, HasSubstr("time limit of"));
}

// --- The master is killed and started again ----------------------------------------------------

TEST_F(ClusterStateTest, ALaunchThatWasLostOnTheWayIsSentAgainAfterARestart) {
  const JobId job = *on_.submit(4);
  on_.prepared(a_, job);
  on_.prepared(b_, job);
  on_.restart_master();
  a_ = on_.connect("gpu-a", 2);
  const auto launched = on_.take<LaunchMessage>(a_);
  ASSERT_THAT(launched, SizeIs(1));
  EXPECT_EQ(launched[0].master_port, 29'500);
  EXPECT_THAT(launched[0].ranks, ElementsAre(0, 1));
}

TEST_F(ClusterStateTest, AfterARestartWorkersHaveTimeToComeBack) {
  const JobId job = running();
  on_.restart_master();
  on_.pass(20'000);
  EXPECT_EQ(on_.job(job).state, JobState::kRunning) << "silence so far is the master's own";
  a_ = on_.connect("gpu-a", 2, "", {{job, 1}});
  on_.pass(15'000, {a_});
  EXPECT_EQ(on_.job(job).state, JobState::kStopping) << "gpu-b did not come";
  EXPECT_EQ(on_.job(job).failure->worker, "gpu-b");
}

TEST_F(ClusterStateTest, IdsOfForgottenJobsAreNotGivenAgainAfterARestart) {
  const JobId job = *on_.submit(1, false, "key");
  on_.restart_master();
  EXPECT_EQ(*on_.submit(1, false, "key"), job) << "the same key, the same job";
  EXPECT_NE(*on_.submit(1), job);
}

// --- GPUs, refusals, reservations ---------------------------------------------------------------

class PlacementInClusterTest : public ::testing::Test {
 protected:
  static JobSpec gang(int ranks, int gpus, milliseconds limit = milliseconds(0)) {
    JobSpec spec;
    spec.ranks = ranks;
    spec.gpus_per_rank = gpus;
    spec.time_limit = limit;
    return spec;
  }

  testing::StateDriver on_;
  SessionId a_ = on_.connect("a", 4, "", {}, {}, /*gpus=*/4, /*memory_bytes=*/100);
};

TEST_F(PlacementInClusterTest, GpusAreKeptWhenTheMasterIsStartedAgain) {
  const JobId first = *on_.submit(gang(1, 2));
  on_.prepared(a_, first);
  const auto launches = on_.take<LaunchMessage>(a_);
  ASSERT_THAT(launches, SizeIs(1));
  EXPECT_THAT(launches[0].gpus, ElementsAre(0, 1));
  on_.says(a_, first, 0, RankSpawned{100});

  on_.restart_master();
  a_ = on_.connect("a", 4, "a-1", {{first, 1}}, {}, 4, 100);
  EXPECT_THAT(on_.job(first).ranks[0].gpus, ElementsAre(0, 1));
  const JobId second = *on_.submit(gang(2, 1));
  EXPECT_THAT(on_.job(second).ranks[0].gpus, ElementsAre(2));
  EXPECT_THAT(on_.job(second).ranks[1].gpus, ElementsAre(3));
  EXPECT_EQ(on_.state.nodes()[0].used, (Resources{3, 4, 0}));
}

TEST_F(PlacementInClusterTest, AWorkerTellsWhichGpusItsTasksHave) {
  JobSpec spec;
  spec.array.emplace().tasks = 1;
  spec.gpus_per_rank = 2;
  const JobId tasks = *on_.submit(spec);
  const auto grants = on_.take<GrantTasksMessage>(a_);
  ASSERT_THAT(grants, SizeIs(1));
  const TaskBatch batch = grants[0].batches.at(0);
  EXPECT_THAT(batch.gpus, ElementsAre(0, 1));

  on_.restart_master();
  const HeldLease held{{tasks, 1}, batch.leases[0], batch.leases[0].epoch, batch.gpus};
  a_ = on_.connect("a", 4, "a-1", {}, {held}, 4, 100);
  const JobId gang_job = *on_.submit(gang(1, 1));
  EXPECT_THAT(on_.job(gang_job).ranks[0].gpus, ElementsAre(2));
}

TEST_F(PlacementInClusterTest, WhatCouldNeverFitIsRefusedUnlessItWaitsForNodes) {
  JobSpec large = gang(3, 2);
  Result<JobId> refused = on_.submit(large);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.failure().kind, ErrorKind::kInvalid);
  EXPECT_THAT(refused.failure().message,
              StartsWith("3 ranks with 2 GPUs each asked, the largest that fits is 2: 1 node x 2"));
  EXPECT_TRUE(on_.state.list(true).empty());
  large.wait_for_nodes = true;
  EXPECT_TRUE(on_.submit(large));
}

TEST_F(PlacementInClusterTest, WhatWasLostAMomentAgoStillCounts) {
  on_.disconnect(a_, /*goodbye=*/true);
  EXPECT_TRUE(on_.submit(gang(4, 1)));
  EXPECT_FALSE(on_.submit(gang(5, 1)));
  const SessionId b = on_.connect("b", 2);
  EXPECT_TRUE(on_.submit(gang(6, 0)));
  on_.pass(601'000, {b});
  EXPECT_FALSE(on_.submit(gang(3, 0)));
}

TEST(PlacementInCluster, BeforeTheFirstWorkerEverythingWaits) {
  testing::StateDriver on;
  JobSpec spec;
  spec.ranks = 1000;
  const Result<JobId> job = on.submit(spec);
  ASSERT_TRUE(job);
  EXPECT_EQ(on.job(*job).reason, "needs 1000 slots; no worker is ready");
}

TEST_F(PlacementInClusterTest, AReservationIsToldAndShortJobsGoAhead) {
  const JobId first = *on_.submit(gang(3, 0, milliseconds(60'000)));
  on_.prepared(a_, first);
  const JobId large = *on_.submit(gang(4, 0));
  const uint64_t expected = on_.job(large).unix_ms_expected_start;
  EXPECT_EQ(expected, on_.now().unix_ms + 65'000) << "the limit and the grace";
  EXPECT_EQ(on_.job(*on_.submit(gang(1, 0))).state, JobState::kPending);
  EXPECT_EQ(on_.job(*on_.submit(gang(1, 0, milliseconds(90'000)))).state, JobState::kPending);
  EXPECT_EQ(on_.job(*on_.submit(gang(1, 0, milliseconds(30'000)))).state, JobState::kStarting);
  on_.expect_all_is_durable();
}

TEST_F(PlacementInClusterTest, AnArrayHasATimeLimitToo) {
  JobSpec spec;
  spec.array.emplace().tasks = 9;
  spec.time_limit = milliseconds(2'000);
  const JobId job = *on_.submit(spec);
  on_.pass(3'000, {a_});
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  EXPECT_EQ(on_.job(job).failure->failure_class, FailureClass::kTimeLimit);
}

// The master would never sleep.
TEST_F(PlacementInClusterTest, NothingIsDueWhileARestartedGangWaitsForRoom) {
  JobSpec spec = gang(4, 0);
  spec.max_preemptions = 1;
  const JobId job = *on_.submit(spec);
  on_.prepared(a_, job);
  for (Rank rank = 0; rank < 4; ++rank) on_.says(a_, job, rank, RankSpawned{100 + rank});
  on_.disconnect(a_, /*goodbye=*/true);
  const SessionId b = on_.connect("b", 1);
  on_.pass(2'000, {b});
  EXPECT_EQ(on_.job(job).state, JobState::kPending);
  EXPECT_EQ(on_.job(job).preemptions, 1);
  ASSERT_TRUE(on_.state.next_wakeup());
  EXPECT_GT(*on_.state.next_wakeup(), on_.now().instant);
}

TEST_F(PlacementInClusterTest, TasksDoNotTakeWhatAGangWaitsFor) {
  JobSpec array;
  array.array.emplace().tasks = 1000;
  const JobId tasks = *on_.submit(array);
  JobSpec first = gang(3, 0);
  first.priority = 1;
  const JobId job = *on_.submit(first);
  EXPECT_EQ(on_.job(job).state, JobState::kPending);
  std::vector<Lease> held;
  for (const GrantTasksMessage& grant : on_.take<GrantTasksMessage>(a_)) {
    for (const TaskBatch& batch : grant.batches) held.push_back(batch.leases[0]);
  }
  ASSERT_THAT(held, SizeIs(4));
  for (int i = 0; i < 3; ++i) {
    on_.task_ends(a_, {tasks, 1}, held[static_cast<size_t>(i)], 0);
    on_.pass(100, {a_});
  }
  EXPECT_EQ(on_.job(job).state, JobState::kStarting);
  EXPECT_THAT(on_.take<GrantTasksMessage>(a_), SizeIs(0)) << "they are followed by the gang";
  on_.task_ends(a_, {tasks, 1}, held[3], 0);
  on_.pass(100, {a_});
  EXPECT_THAT(on_.take<GrantTasksMessage>(a_), SizeIs(1)) << "and go on beside it";
}

TEST_F(PlacementInClusterTest, AResultThatItsHostCouldNotKeepIsNoFaultOfTheTask) {
  JobSpec array;
  array.array.emplace().tasks = 2;
  array.array->max_attempts = 1;
  const JobId tasks = *on_.submit(array);
  std::vector<Lease> held;
  for (const GrantTasksMessage& grant : on_.take<GrantTasksMessage>(a_)) {
    for (const TaskBatch& batch : grant.batches) held.push_back(batch.leases[0]);
  }
  ASSERT_THAT(held, SizeIs(2));
  TaskEndedMessage hosts{{tasks, 1}, held[0], {}, "only 3 of 9 bytes could be kept"};
  hosts.host_fault = true;
  const TaskEndedMessage own{{tasks, 1}, held[1], {}, "more than --max-result"};
  (void)on_.state.tasks_ended(a_, {hosts, own}, on_.now());
  const TaskTable& table = *on_.state.tasks(tasks);
  EXPECT_EQ(table.state(held[0].task), TaskState::kBackingOff);
  EXPECT_EQ(table.state(held[1].task), TaskState::kQuarantined);
}

TEST_F(PlacementInClusterTest, EndsThatComeTogetherAreAnsweredTogetherEachForItself) {
  JobSpec array;
  array.array.emplace().tasks = 1000;
  const JobId tasks = *on_.submit(array);
  std::vector<Lease> held;
  for (const GrantTasksMessage& grant : on_.take<GrantTasksMessage>(a_)) {
    for (const TaskBatch& batch : grant.batches) held.push_back(batch.leases[0]);
  }
  ASSERT_THAT(held, SizeIs(4));
  Lease never = held[1];
  never.epoch += 1'000'000;
  const auto end_of = [&](const Lease& lease, int code) {
    return TaskEndedMessage{{tasks, 1}, lease, {code, 0, false, "", {}, ""}, ""};
  };
  const std::vector<CommitOutcome> outcomes =
      on_.state.tasks_ended(a_,
                            {end_of(held[0], 0), end_of(never, 0), end_of(held[2], 1),
                             end_of(held[0], 0), TaskEndedMessage{{"j99", 1}, held[3], {}, ""}},
                            on_.now());
  EXPECT_THAT(outcomes, ElementsAre(CommitOutcome::kCommitted, CommitOutcome::kStale,
                                    CommitOutcome::kRepeated, CommitOutcome::kRepeated,
                                    CommitOutcome::kUnknown));
  on_.pass(1, {a_});
  const auto answers = on_.take<TaskAnswersMessage>(a_);
  ASSERT_THAT(answers, SizeIs(1));
  EXPECT_THAT(answers[0].taken, ElementsAre(held[0].epoch, held[2].epoch, held[0].epoch));
  EXPECT_THAT(answers[0].stale, ElementsAre(never.epoch, held[3].epoch));
  const TaskTable& table = *on_.state.tasks(tasks);
  EXPECT_EQ(table.state(held[0].task), TaskState::kDone);
  EXPECT_EQ(table.state(held[1].task), TaskState::kLeased);
  EXPECT_EQ(table.state(held[2].task), TaskState::kBackingOff);
  EXPECT_EQ(table.state(held[3].task), TaskState::kLeased);
  size_t granted = 0;
  for (const GrantTasksMessage& grant : on_.take<GrantTasksMessage>(a_)) {
    granted += grant.batches.size();
  }
  EXPECT_EQ(granted, 2u) << "into the slots that have become free";
  on_.expect_all_is_durable();
}

}  // namespace
}  // namespace longhaul

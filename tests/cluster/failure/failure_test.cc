// Each test is a story of what the master saw, in the order in which it saw it.
#include "cluster/failure/failure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FailureTest : public ::testing::Test {
 protected:
  // `n` joined ranks, two on a worker: gpu-a, gpu-b, ...
  void world(int n) {
    for (int i = 0; i < n; ++i) {
      RankRecord rank;
      rank.rank = i;
      rank.worker = std::string("gpu-") + static_cast<char>('a' + i / 2);
      rank.host = "host-" + rank.worker;
      rank.pid = 100 + i;
      rank.state = RankState::kJoined;
      rank.joined_at = now_;
      ranks_.push_back(rank);
      if (i % 2 == 0) workers_.push_back({rank.worker, rank.host, false, "", 0, std::nullopt});
    }
  }
  void not_joined(Rank rank) {
    ranks_[rank].joined_at.reset();
    ranks_[rank].state = RankState::kSpawned;
  }
  void fault(Rank rank, ErrorKind kind, Rank peer, const std::string& message = "all-reduce") {
    ranks_[rank].fault = RankFault{kind, message, peer};
    ranks_[rank].fault_at = now_;
    ranks_[rank].fault_order = ++order_;
  }
  RankExit& exits(Rank rank, int code, int signal = 0, bool by_us = false) {
    RankRecord& record = ranks_[rank];
    record.state = RankState::kExited;
    record.exit = RankExit{signal != 0 ? 128 + signal : code, signal, by_us, "", {}, ""};
    record.exited_at = now_;
    record.exit_order = ++order_;
    return *record.exit;
  }
  void leaves(Rank rank) {
    ranks_[rank].left = true;
    ranks_[rank].state = RankState::kLeft;
  }
  void loses_worker(size_t index) {
    workers_[index].lost = true;
    workers_[index].why = "silent for 5.0s";
    workers_[index].lost_order = ++order_;
    workers_[index].lease_ends.reset();
    for (RankRecord& rank : ranks_) {
      if (rank.worker == workers_[index].id && !rank.accounted()) rank.state = RankState::kLost;
    }
  }
  void pass(int ms) { now_ += milliseconds(ms); }

  FailureDecision decide() const { return decide_culprit(ranks_, workers_, now_, options_); }
  void expect_waits() const {
    const auto decision = decide();
    EXPECT_FALSE(decision.verdict) << decision.verdict->message;
    ASSERT_TRUE(decision.wait_until);
    EXPECT_GT(*decision.wait_until, now_);
  }
  void expect_culprit(FailureClass failure_class, std::optional<Rank> rank) const {
    const auto decision = decide();
    ASSERT_TRUE(decision.verdict);
    EXPECT_EQ(decision.verdict->failure_class, failure_class) << decision.verdict->message;
    EXPECT_EQ(decision.verdict->rank, rank) << decision.verdict->message;
  }
  FailureReport report() const { return make_report(*decide().verdict, ranks_, workers_); }

  std::vector<RankRecord> ranks_;
  std::vector<WorkerEvidence> workers_;
  FailureOptions options_;
  Instant now_{milliseconds(1'000'000)};
  uint64_t order_ = 0;
};

TEST_F(FailureTest, NothingFailedNothingDecided) {
  for (const int n : {1, 2, 3, 4, 7}) {
    ranks_.clear();
    workers_.clear();
    world(n);
    EXPECT_FALSE(decide().verdict);
    EXPECT_FALSE(decide().wait_until);
  }
}

TEST_F(FailureTest, AKilledRankIsTheCulpritThoughItsVictimsSpokeFirst) {
  world(4);
  fault(0, ErrorKind::kPeerLost, 3);  // Gloo blames a neighbour that lives
  exits(0, 1);
  fault(3, ErrorKind::kPeerLost, 2);
  expect_waits();
  pass(50);
  exits(2, 0, SIGKILL);
  expect_culprit(FailureClass::kKilled, 2);
  const auto told = report();
  EXPECT_EQ(told.message,
            "rank 2 on gpu-b (pid 102) was ended by SIGKILL, which Longhaul did not send");
  EXPECT_EQ(told.host, "host-gpu-b");
  EXPECT_EQ(told.signal, SIGKILL);
  EXPECT_EQ(job_exit_code(told), 137);
  EXPECT_THAT(told.victims, ElementsAre(0, 1, 3));
  EXPECT_THAT(told.evidence, ElementsAre(HasSubstr("rank 0"), HasSubstr("rank 3"),
                                         "rank 2 on gpu-b (pid 102) was ended by SIGKILL"));
}

TEST_F(FailureTest, AnExitCodePassesThroughWithItsLastLines) {
  world(3);
  exits(1, 7).last_lines = {"cannot read shard 12"};
  expect_waits();
  pass(300);
  expect_culprit(FailureClass::kExitCode, 1);
  EXPECT_EQ(job_exit_code(report()), 7);
  EXPECT_THAT(report().last_lines, ElementsAre("cannot read shard 12"));
}

TEST_F(FailureTest, ASignalOutweighsAnExitCodeThatCameFirst) {
  world(2);
  exits(0, 1);  // a program without our library cannot say that it is a victim
  pass(100);
  exits(1, 0, SIGSEGV);
  expect_culprit(FailureClass::kSignal, 1);
}

TEST_F(FailureTest, SigabrtIsNoBetterThanAnExitCode) {
  world(3);
  exits(0, 0, SIGABRT);  // an uncaught exception, perhaps a victim's
  expect_waits();
  pass(100);
  exits(2, 0, SIGKILL);
  expect_culprit(FailureClass::kKilled, 2);
}

TEST_F(FailureTest, AnExceptionOfItsOwnWaitsForItsExitCode) {
  world(2);
  fault(1, ErrorKind::kInvalid, -1, "shape [3] expected [4]");
  expect_waits();
  fault(0, ErrorKind::kPeerLost, 1);
  exits(0, 1);
  expect_waits();
  exits(1, 3);
  expect_culprit(FailureClass::kException, 1);
  EXPECT_EQ(job_exit_code(report()), 3);
}

TEST_F(FailureTest, AnExceptionWithoutAnEndIsBelievedAfterAWhile) {
  world(2);
  fault(1, ErrorKind::kCorrupt, 0, "payload of rank 0 does not decode");
  pass(2000);
  expect_culprit(FailureClass::kException, 1);
  EXPECT_EQ(job_exit_code(report()), 1);
}

TEST_F(FailureTest, AProgramThatCannotBeStarted) {
  world(2);
  not_joined(1);
  exits(1, 127).launch_error = "execve: No such file or directory";
  expect_culprit(FailureClass::kLaunch, 1);
  EXPECT_EQ(job_exit_code(report()), 127);
}

TEST_F(FailureTest, ALostWorkerOutweighsItsVictims) {
  world(4);
  workers_[1].lease_ends = now_ + milliseconds(4000);
  fault(0, ErrorKind::kPeerLost, 2);
  fault(1, ErrorKind::kPeerLost, 2);
  exits(0, 1);
  exits(1, 1);
  pass(2500);
  expect_waits();  // longer than for ordinary victims: the lease may decide
  pass(1500);
  loses_worker(1);
  expect_culprit(FailureClass::kWorkerLost, std::nullopt);
  const auto told = report();
  EXPECT_EQ(told.message, "worker gpu-b on host-gpu-b was lost (silent for 5.0s) with ranks 2, 3");
  EXPECT_EQ(told.worker, "gpu-b");
  EXPECT_THAT(told.victims, ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(job_exit_code(told), 1);
}

TEST_F(FailureTest, AWorkerLostAfterItsRanksHadFailedIsNotTheCulprit) {
  world(4);
  exits(2, 0, SIGKILL);
  exits(3, 1);
  loses_worker(1);
  expect_culprit(FailureClass::kKilled, 2);
}

TEST_F(FailureTest, LeavingEarlyWhileOthersFailPointsBack) {
  world(3);
  leaves(1);
  exits(1, 0);
  EXPECT_FALSE(decide().wait_until);
  pass(100);
  fault(0, ErrorKind::kPeerLost, 1);
  exits(0, 1);
  expect_waits();
  pass(2000);
  expect_culprit(FailureClass::kEarlyExit, 1);
  EXPECT_EQ(job_exit_code(report()), 1);
  EXPECT_THAT(report().victims, ElementsAre(0, 2));
}

TEST_F(FailureTest, LeavingTogetherIsSuccess) {
  world(3);
  for (int i = 0; i < 3; ++i) {
    leaves(i);
    exits(i, 0);
    pass(1000);
    EXPECT_FALSE(decide().verdict);
  }
}

TEST_F(FailureTest, ExitingBeforeJoiningWhileOthersWait) {
  world(2);
  not_joined(0);
  exits(0, 0);
  expect_culprit(FailureClass::kEarlyExit, 0);
}

TEST_F(FailureTest, ProgramsThatNeverJoinMayEndOneAfterTheOther) {
  world(3);
  for (int i = 0; i < 3; ++i) not_joined(i);
  exits(0, 0);
  pass(3'600'000);
  EXPECT_FALSE(decide().verdict);
  EXPECT_FALSE(decide().wait_until);
}

TEST_F(FailureTest, ExitingWithoutLeavingIsForgivenWhileNobodyMissesIt) {
  world(2);
  exits(1, 0);
  pass(60'000);  // rank 0 writes a checkpoint
  EXPECT_FALSE(decide().verdict);
  ranks_[0].progress = RankProgress();
  ranks_[0].progress->operation = "all-reduce";
  ranks_[0].progress_at = now_;
  expect_culprit(FailureClass::kEarlyExit, 1);
}

TEST_F(FailureTest, SomebodyNeverJoins) {
  world(4);
  not_joined(2);
  expect_waits();
  pass(299'999);
  expect_waits();
  pass(1);
  expect_culprit(FailureClass::kJoinTimeout, 2);
}

TEST_F(FailureTest, AVictimOfAMissingRankNamesIt) {
  world(3);
  not_joined(2);
  fault(0, ErrorKind::kDeadline, -1, "store: nobody set 'rank2'");
  pass(2000);
  expect_culprit(FailureClass::kJoinTimeout, 2);
}

TEST_F(FailureTest, TheOneThatIsStillThereHangs) {
  world(3);
  fault(0, ErrorKind::kDeadline, 2);
  exits(0, 1);
  fault(2, ErrorKind::kPeerLost, 0);
  exits(2, 1);
  expect_waits();
  pass(2000);
  expect_culprit(FailureClass::kHang, 1);
}

TEST_F(FailureTest, AllLateThenTheOneFurthestBehindHangs) {
  world(4);
  for (int i = 0; i < 4; ++i) {
    ranks_[i].progress = RankProgress();
    ranks_[i].progress->collective_sequence = i == 3 ? 41 : 42;
    fault(i, ErrorKind::kDeadline, -1);
  }
  pass(2000);
  expect_culprit(FailureClass::kHang, 3);
}

TEST_F(FailureTest, AProcessFoundStoppedSettlesIt) {
  world(4);
  for (int i = 0; i < 3; ++i) fault(i, ErrorKind::kDeadline, 0);
  pass(2000);
  const Verdict first = *decide().verdict;
  EXPECT_TRUE(first.tentative);
  EXPECT_EQ(first.rank, 3);
  for (int i = 0; i < 4; ++i) exits(i, 0, SIGTERM, true);
  ranks_[2].exit->process_state = "T";
  const Verdict settled = refine_verdict(first, ranks_);
  EXPECT_EQ(settled.failure_class, FailureClass::kHang);
  EXPECT_EQ(settled.rank, 2);
  EXPECT_THAT(settled.message, HasSubstr("was stopped (state T)"));
  EXPECT_EQ(job_exit_code(make_report(settled, ranks_, workers_)), 1) << "SIGTERM was ours";
}

TEST_F(FailureTest, ABrokenLinkHasNoOtherCulprit) {
  world(2);
  fault(1, ErrorKind::kPeerLost, 0, "connection reset");
  exits(1, 1);
  fault(0, ErrorKind::kPeerLost, 1, "connection reset");
  exits(0, 1);
  pass(2000);
  expect_culprit(FailureClass::kException, 1);
  EXPECT_THAT(report().victims, ElementsAre(0));
}

TEST_F(FailureTest, AnEarlierVictimDoesNotOvertakeACertainCulpritThatIsStillLookedAt) {
  world(3);
  fault(0, ErrorKind::kPeerLost, 1);
  pass(1900);
  exits(2, 5);
  pass(150);  // the victims' time is over, the exit code's is not
  expect_waits();
  pass(150);
  expect_culprit(FailureClass::kExitCode, 2);
}

// --- What the end itself says ------------------------------------------------------------------

TEST_F(FailureTest, MemoryThatRanOutIsNoMereKill) {
  world(3);
  exits(0, 1);
  exits(1, 0, SIGKILL).evidence.out_of_memory = "oom_kill of cgroup /jobs rose to 1 while it died";
  expect_culprit(FailureClass::kOutOfMemory, 1);
  EXPECT_THAT(report().message, HasSubstr("ran out of memory: oom_kill of cgroup /jobs rose to 1"));
  EXPECT_EQ(job_exit_code(report()), 137);
  EXPECT_EQ(fault_kind(report().failure_class), FaultKind::kOutOfMemory);
}

TEST_F(FailureTest, AnExceptionForLackOfMemoryCountsAsThat) {
  world(2);
  fault(1, ErrorKind::kInternal, -1, "std::bad_alloc: std::bad_alloc");
  exits(1, 0, SIGABRT);
  expect_culprit(FailureClass::kOutOfMemory, 1);

  ranks_.clear();
  workers_.clear();
  world(2);
  exits(0, 1).evidence.exception = "torch.OutOfMemoryError: CUDA out of memory.";
  expect_culprit(FailureClass::kOutOfMemory, 0);
}

TEST_F(FailureTest, AnExceptionInTheLastLinesIsAsWeakAsAnExitCode) {
  world(3);
  exits(1, 1).evidence.exception = "ValueError: bad shape";
  expect_waits();
  pass(299);
  expect_waits();
  pass(1);
  expect_culprit(FailureClass::kException, 1);
  EXPECT_THAT(report().message, HasSubstr("failed: ValueError: bad shape"));
  EXPECT_EQ(job_exit_code(report()), 1);
  exits(2, 0, SIGSEGV);
  expect_culprit(FailureClass::kSignal, 2);
}

TEST_F(FailureTest, AMissingLibraryIsNoExitCode) {
  world(2);
  not_joined(1);
  exits(1, 127).evidence.cannot_run = "missing library libfoo.so.1";
  expect_culprit(FailureClass::kLaunch, 1);
  EXPECT_THAT(report().message, HasSubstr("could not run: missing library libfoo.so.1"));
  EXPECT_EQ(job_exit_code(report()), 127);
}

TEST_F(FailureTest, AProgramThatMayNotBeExecutedExitsAsInAShell) {
  world(1);
  exits(0, 126).launch_error = "./train: not executable";
  expect_culprit(FailureClass::kLaunch, 0);
  EXPECT_EQ(job_exit_code(report()), 126);
}

TEST_F(FailureTest, ABacktraceIsKept) {
  world(1);
  exits(0, 0, SIGSEGV).evidence.backtrace = {"#0 0x1 step() at train.cc:42"};
  EXPECT_THAT(report().backtrace, ElementsAre("#0 0x1 step() at train.cc:42"));
}

TEST_F(FailureTest, AWorkerThatWasToldToStopIsNoFault) {
  world(4);
  loses_worker(1);
  workers_[1].preempted = true;
  expect_culprit(FailureClass::kPreempted, std::nullopt);
  EXPECT_EQ(fault_kind(report().failure_class), FaultKind::kPreemption);
}

TEST_F(FailureTest, SigtermFromElsewhereMayBeAHostThatGoesDown) {
  world(4);
  exits(2, 0, SIGTERM);
  expect_waits();
  pass(100);
  loses_worker(1);  // the other rank there: its worker says goodbye
  workers_[1].preempted = true;
  expect_culprit(FailureClass::kPreempted, std::nullopt);
}

TEST_F(FailureTest, OneWhoseLastWordsAreOfItsPeerIsAVictim) {
  RankExit exit{1, 0, false, "", {}, ""};
  EXPECT_FALSE(fault_of_victim(exit));
  exit.evidence.exception = "ValueError: bad shape";
  EXPECT_FALSE(fault_of_victim(exit));
  exit.evidence.exception = "RuntimeError: [pair.cc:534] Connection closed by peer [10.0.0.2]:41";
  ASSERT_TRUE(fault_of_victim(exit));
  EXPECT_EQ(fault_of_victim(exit)->kind, ErrorKind::kPeerLost);
  exit.stopped_by_us = true;
  EXPECT_FALSE(fault_of_victim(exit));
}

// --- Since when, and how soon ------------------------------------------------------------------

TEST_F(FailureTest, AHangSaysSinceWhenAndWhereIn) {
  world(4);
  RankProgress progress;
  progress.step = 12;
  progress.collective_sequence = 37;
  progress.operation = "all-reduce";
  ranks_[2].progress = progress;
  ranks_[2].moved_at = now_;
  pass(3200);
  for (const Rank rank : {0, 1, 3}) fault(rank, ErrorKind::kDeadline, 0, "30 s are over");
  pass(800);
  expect_culprit(FailureClass::kHang, 2);
  EXPECT_EQ(report().message,
            "rank 2 on gpu-b (pid 102) is alive but does not answer, since step 12, in all-reduce "
            "(collective 37), for 3.2s; rank 0 waited for it and gave up: 30 s are over");
}

TEST_F(FailureTest, WhenAllButOneHaveSpokenNobodyElseIsAwaited) {
  world(4);
  fault(0, ErrorKind::kDeadline, 3);
  fault(1, ErrorKind::kDeadline, 0);
  pass(1000);
  expect_waits();  // two could still say better
  fault(3, ErrorKind::kDeadline, 2);
  pass(799);
  expect_waits();
  pass(1);
  expect_culprit(FailureClass::kHang, 2);
}

TEST_F(FailureTest, OneThatIsDeadByAllAccountsIsGivenTimeToShowIt) {
  world(4);
  for (const Rank rank : {0, 1, 2}) fault(rank, ErrorKind::kPeerLost, (rank + 3) % 4);
  pass(1900);
  expect_waits();  // its worker is only slow to say so
  exits(3, 0);
  expect_culprit(FailureClass::kEarlyExit, 3);
}

TEST_F(FailureTest, ASilentWorkersLeaseIsAwaitedAllTheSame) {
  world(4);
  workers_[1].lease_ends = now_ + milliseconds(4000);
  for (const Rank rank : {0, 1, 3}) fault(rank, ErrorKind::kDeadline, 2);
  pass(3999);
  expect_waits();
  pass(1);
  expect_culprit(FailureClass::kHang, 2);
}

TEST_F(FailureTest, PeersOutOfRangeHarmNobody) {
  world(2);
  fault(0, ErrorKind::kPeerLost, 99);
  pass(2000);
  EXPECT_TRUE(decide().verdict);
}

}  // namespace
}  // namespace longhaul

#include "cluster/arrays/task_table.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>

#include "base/check.h"

namespace longhaul {
namespace {

using enum TaskState;

const LeaseHolder kAlice{"alice", "a1"};
const LeaseHolder kBob{"bob", "b1"};

std::vector<TaskIndex> tasks_of(const std::vector<Lease>& leases) {
  std::vector<TaskIndex> tasks;
  tasks.reserve(leases.size());
  for (const Lease& lease : leases) tasks.push_back(lease.task);
  return tasks;
}

using Tasks = std::vector<TaskIndex>;

// A table with its clock, so that a test reads as a story.
class TaskTableTest : public ::testing::Test {
 protected:
  void make(TaskIndex size) {
    make(size, [](TaskOptions&) {});
  }
  template <typename Change>
  void make(TaskIndex size, Change change) {
    options_ = {};
    change(options_);
    table_.emplace(size, options_);
  }
  TaskTable& table() { return *table_; }
  std::vector<Lease> grant(size_t count, const LeaseHolder& holder = kAlice) {
    return table().grant(holder, count, epochs_, now_);
  }
  Lease grant_one(const LeaseHolder& holder = kAlice) { return grant(1, holder).at(0); }
  FailOutcome fail(const Lease& lease, FaultKind kind = FaultKind::kApplication,
                   const std::string& reason = "exit code 3") {
    return table().fail(lease, kind, reason, now_);
  }
  void pass(milliseconds time) {
    now_ += time;
    table().tick(now_);
  }
  void pass_backoff() { pass(options_.backoff.limit); }
  // The master is killed after everything was written, and another one reads that.
  void restart() {
    for (TaskRecord& row : table().take_changes()) rows_[row.task] = std::move(row);
    std::vector<TaskRecord> rows;
    rows.reserve(rows_.size());
    for (const auto& [task, row] : rows_) rows.push_back(row);
    table_.emplace(table().size(), options_);
    ASSERT_TRUE(table().restore(rows, now_));
    epochs_ = LeaseEpochs(++boot_);
  }

  TaskOptions options_;
  std::optional<TaskTable> table_;
  uint32_t boot_ = 1;
  LeaseEpochs epochs_{boot_};
  Instant now_{milliseconds(1'000'000)};
  std::map<TaskIndex, TaskRecord> rows_;
};

// Grants

TEST_F(TaskTableTest, ATaskIsGrantedCommittedAndDone) {
  make(1);
  const Lease lease = grant_one();
  EXPECT_EQ(lease, (Lease{0, 1, (LeaseEpoch{1} << LeaseEpochs::kCounterBits) + 1, "a1"}));
  EXPECT_EQ(table().state(0), kLeased);
  EXPECT_EQ(table().standing(lease), LeaseStanding::kCurrent);
  EXPECT_FALSE(table().ended());
  EXPECT_EQ(table().commit(lease), CommitOutcome::kCommitted);
  EXPECT_EQ(table().state(0), kDone);
  EXPECT_TRUE(table().ended());
  EXPECT_TRUE(grant(1).empty());
}

TEST_F(TaskTableTest, AJobWithoutTasksHasEnded) {
  make(0);
  EXPECT_TRUE(table().ended());
  EXPECT_TRUE(grant(3).empty());
  EXPECT_EQ(table().commit({0, 1, 1, "a1"}), CommitOutcome::kUnknown);
}

TEST_F(TaskTableTest, EveryGrantHasItsOwnEpoch) {
  make(3);
  const std::vector<Lease> leases = grant(2);
  const Lease third = grant_one(kBob);
  EXPECT_LT(leases[0].epoch, leases[1].epoch);
  EXPECT_LT(leases[1].epoch, third.epoch);
  EXPECT_EQ(third.incarnation, "b1");
}

TEST_F(TaskTableTest, TheLowestWaitingTaskComesFirstSoRetriesGoAhead) {
  make(6);
  const std::vector<Lease> leases = grant(3);
  EXPECT_EQ(tasks_of(leases), (Tasks{0, 1, 2}));
  table().release(leases[2]);
  fail(leases[0], FaultKind::kPreemption);
  EXPECT_EQ(tasks_of(grant(3)), (Tasks{0, 2, 3}));
}

TEST_F(TaskTableTest, TheCapCountsWhatIsLeasedAtOnce) {
  make(10, [](TaskOptions& options) { options.max_leased = 3; });
  EXPECT_EQ(table().grantable(), 3u);
  const std::vector<Lease> leases = grant(10);
  EXPECT_EQ(leases.size(), 3u);
  EXPECT_EQ(table().grantable(), 0u);
  EXPECT_TRUE(grant(1, kBob).empty());
  table().commit(leases[0]);
  fail(leases[1]);
  EXPECT_EQ(table().grantable(), 2u);
  EXPECT_EQ(tasks_of(grant(10, kBob)), (Tasks{3, 4}));
}

TEST_F(TaskTableTest, ACapOfNoneGrantsNothing) {
  make(10, [](TaskOptions& options) { options.max_leased = 0; });
  EXPECT_TRUE(grant(10).empty());
}

TEST_F(TaskTableTest, AStageBeginsWhenAllBeforeItHaveEnded) {
  make(5, [](TaskOptions& options) {
    options.budgets.application = 1;
    options.stage_size = 2;
  });
  const std::vector<Lease> first = grant(9);
  EXPECT_EQ(tasks_of(first), (Tasks{0, 1}));
  table().commit(first[1]);
  EXPECT_TRUE(grant(9).empty());
  fail(first[0]);
  EXPECT_EQ(table().state(0), kQuarantined);
  const std::vector<Lease> second = grant(9);
  EXPECT_EQ(tasks_of(second), (Tasks{2, 3}));

  // A retry in an ended stage holds back what has not been granted yet.
  table().commit(second[0]);
  EXPECT_TRUE(table().retry(0));
  table().release(second[1]);
  EXPECT_EQ(tasks_of(grant(9)), (Tasks{0}));
}

// Fencing

TEST_F(TaskTableTest, ACommitIsRepeatedWithoutEffect) {
  make(2);
  const Lease lease = grant_one();
  EXPECT_EQ(table().commit(lease), CommitOutcome::kCommitted);
  table().take_changes();
  const TaskCounts counts = table().counts();
  EXPECT_EQ(table().commit(lease), CommitOutcome::kRepeated);
  EXPECT_EQ(table().standing(lease), LeaseStanding::kCommitted);
  EXPECT_TRUE(table().take_changes().empty());
  EXPECT_EQ(table().counts(), counts);
  EXPECT_EQ(fail(lease), FailOutcome::kStale);
  EXPECT_FALSE(table().release(lease));
  EXPECT_EQ(table().state(0), kDone);
}

TEST_F(TaskTableTest, EachPartOfALeaseIsCompared) {
  make(3);
  const Lease lease = grant(2)[0];
  struct Case {
    Lease lease;
    CommitOutcome outcome;
  };
  const Case cases[] = {
      {{1, lease.attempt, lease.epoch, "a1"}, CommitOutcome::kStale},
      {{2, lease.attempt, lease.epoch, "a1"}, CommitOutcome::kUnknown},
      {{3, lease.attempt, lease.epoch, "a1"}, CommitOutcome::kUnknown},
      {{kMaxTasks, lease.attempt, lease.epoch, "a1"}, CommitOutcome::kUnknown},
      {{0, 0, lease.epoch, "a1"}, CommitOutcome::kUnknown},
      {{0, 2, lease.epoch, "a1"}, CommitOutcome::kUnknown},
      {{0, lease.attempt, lease.epoch + 1, "a1"}, CommitOutcome::kStale},
      {{0, lease.attempt, lease.epoch, "a2"}, CommitOutcome::kStale},
      {{0, lease.attempt, lease.epoch, ""}, CommitOutcome::kStale},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(table().commit(one.lease), one.outcome) << &one - cases;
    EXPECT_EQ(fail(one.lease), FailOutcome::kStale);
    EXPECT_FALSE(table().release(one.lease));
  }
  EXPECT_EQ(table().counts().in(kLeased), 2u);
  EXPECT_EQ(table().counts().of(FaultKind::kApplication), 0u);
  EXPECT_EQ(table().commit(lease), CommitOutcome::kCommitted);
}

TEST_F(TaskTableTest, AnEarlierAttemptIsStaleWhoeverHoldsTheTask) {
  make(1);
  const Lease first = grant_one();
  EXPECT_EQ(table().worker_lost("a1", "lease ran out", now_), 1u);
  EXPECT_EQ(table().commit(first), CommitOutcome::kStale) << "backing off";
  pass_backoff();
  EXPECT_EQ(table().commit(first), CommitOutcome::kStale) << "waiting";
  const Lease second = grant_one(kBob);
  EXPECT_EQ(second.attempt, 2u);
  EXPECT_EQ(table().commit(first), CommitOutcome::kStale) << "leased to another";
  EXPECT_EQ(table().commit(second), CommitOutcome::kCommitted);
  EXPECT_EQ(table().commit(first), CommitOutcome::kStale) << "done by another";
}

// Failures

TEST_F(TaskTableTest, TheBudgetOfEachKindQuarantines) {
  const struct {
    FaultKind kind;
    int budget;
  } cases[] = {{FaultKind::kApplication, 3}, {FaultKind::kOutOfMemory, 2}, {FaultKind::kNode, 10}};
  for (const auto& [kind, budget] : cases) {
    make(1);
    for (int failure = 1; failure < budget; ++failure) {
      EXPECT_EQ(fail(grant_one(), kind), FailOutcome::kWillRetry) << to_string(kind) << failure;
      EXPECT_EQ(table().state(0), kBackingOff);
      pass_backoff();
    }
    EXPECT_EQ(fail(grant_one(), kind, "the last reason"), FailOutcome::kQuarantined);
    EXPECT_EQ(table().quarantined(), (Tasks{0}));
    const TaskRecord record = table().record(0);
    EXPECT_EQ(record.reason, "the last reason");
    EXPECT_EQ(record.last_fault, kind);
    EXPECT_EQ(record.attempt, static_cast<uint32_t>(budget));
    EXPECT_EQ(table().counts().of(kind), static_cast<uint64_t>(budget));
    EXPECT_TRUE(table().ended());
    pass_backoff();
    EXPECT_TRUE(grant(1).empty());
  }
}

TEST_F(TaskTableTest, BudgetsAreSeparate) {
  make(1);
  const FaultKind faults[] = {FaultKind::kApplication, FaultKind::kOutOfMemory, FaultKind::kNode,
                              FaultKind::kApplication, FaultKind::kNode,        FaultKind::kNode,
                              FaultKind::kPreemption,  FaultKind::kNode};
  for (const FaultKind kind : faults) {
    EXPECT_EQ(fail(grant_one(), kind), FailOutcome::kWillRetry);
    pass_backoff();
  }
  EXPECT_EQ(table().record(0).failures, (FaultCounts{2, 1, 4, 1}));
  EXPECT_EQ(table().commit(grant_one()), CommitOutcome::kCommitted);
  EXPECT_EQ(table().record(0).reason, "") << "a done task has no reason to show";
  EXPECT_TRUE(table().quarantined().empty());
}

TEST_F(TaskTableTest, AFailureCountsOnceHoweverOftenItIsReported) {
  make(1);
  const Lease lease = grant_one();
  EXPECT_EQ(fail(lease), FailOutcome::kWillRetry);
  EXPECT_EQ(fail(lease), FailOutcome::kStale);
  EXPECT_EQ(fail(lease, FaultKind::kNode), FailOutcome::kStale);
  EXPECT_EQ(table().worker_lost("a1", "lost", now_), 0u);
  EXPECT_EQ(table().record(0).failures, (FaultCounts{1, 0, 0, 0}));
}

TEST_F(TaskTableTest, BackoffDoublesAndItsEndWakesTheTask) {
  make(1, [](TaskOptions& options) { options.backoff = {milliseconds(100), milliseconds(1000)}; });
  for (const int most : {100, 200}) {
    fail(grant_one());
    const milliseconds longest(most);
    const Instant due = *table().next_wakeup();
    EXPECT_GE(due, now_ + longest / 2);
    EXPECT_LE(due, now_ + longest);
    pass(std::chrono::duration_cast<milliseconds>(due - now_) - milliseconds(1));
    EXPECT_EQ(table().state(0), kBackingOff);
    EXPECT_TRUE(grant(1).empty());
    pass(milliseconds(1));
    EXPECT_EQ(table().state(0), kWaiting);
    EXPECT_EQ(table().next_wakeup(), std::nullopt);
  }
}

TEST_F(TaskTableTest, WhatFailsTogetherDoesNotComeBackTogether) {
  make(100);
  for (const Lease& lease : grant(100)) fail(lease);
  std::set<Instant> wakeups;
  while (table().next_wakeup()) {
    wakeups.insert(*table().next_wakeup());
    table().tick(*table().next_wakeup());
  }
  EXPECT_GT(wakeups.size(), 50u);
  EXPECT_GT(*wakeups.rbegin() - *wakeups.begin(), options_.backoff.first / 3);
}

TEST_F(TaskTableTest, TheSeedDecidesTheJitter) {
  const auto delay = [&](uint64_t seed) {
    make(1, [&](TaskOptions& options) { options.seed = seed; });
    fail(grant_one());
    return *table().next_wakeup() - now_;
  };
  EXPECT_EQ(delay(1), delay(1));
  EXPECT_NE(delay(1), delay(2));
}

TEST_F(TaskTableTest, APreemptedTaskWaitsForNothing) {
  make(1);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(fail(grant_one(), FaultKind::kPreemption), FailOutcome::kWillRetry);
  }
  EXPECT_EQ(table().commit(grant_one()), CommitOutcome::kCommitted);
}

TEST_F(TaskTableTest, ALostWorkerLosesItsLeasesAndNobodyElses) {
  make(6);
  const std::vector<Lease> of_alice = grant(3);
  const std::vector<Lease> of_bob = grant(2, kBob);
  table().commit(of_alice[0]);
  EXPECT_EQ(table().holders(), (std::vector<LeaseHolder>{kAlice, kBob}));
  EXPECT_EQ(table().leases_of("a1"), (std::vector<Lease>{of_alice[1], of_alice[2]}));
  EXPECT_EQ(table().worker_lost("a1", "silent for 5.0s", now_), 2u);
  EXPECT_TRUE(table().leases_of("a1").empty());
  EXPECT_EQ(table().holders(), (std::vector<LeaseHolder>{kBob}));
  EXPECT_EQ(table().state(0), kDone);
  for (const TaskIndex task : {1u, 2u}) {
    EXPECT_EQ(table().state(task), kBackingOff);
    EXPECT_EQ(table().record(task).last_fault, FaultKind::kNode);
    EXPECT_EQ(table().record(task).reason, "silent for 5.0s");
    EXPECT_EQ(table().record(task).holder, kAlice) << "of the last attempt";
  }
  EXPECT_EQ(table().commit(of_bob[1]), CommitOutcome::kCommitted);
  EXPECT_EQ(table().worker_lost("nobody", "", now_), 0u);
}

TEST_F(TaskTableTest, AReleasedLeaseCountsNothing) {
  make(1);
  const Lease lease = grant_one();
  EXPECT_TRUE(table().release(lease));
  EXPECT_FALSE(table().release(lease));
  EXPECT_EQ(table().commit(lease), CommitOutcome::kStale);
  EXPECT_EQ(table().record(0).failures, FaultCounts{});
  EXPECT_EQ(grant_one().attempt, 2u);
}

TEST_F(TaskTableTest, ARetriedTaskHasAllBudgetsAfresh) {
  make(3, [](TaskOptions& options) { options.budgets.application = 2; });
  const std::vector<Lease> leases = grant(3);
  fail(leases[0]);
  fail(leases[2]);
  pass_backoff();
  for (const Lease& lease : grant(3)) fail(lease);
  EXPECT_EQ(table().quarantined(), (Tasks{0, 2}));
  EXPECT_FALSE(table().retry(1)) << "leased";
  EXPECT_FALSE(table().retry(7)) << "no such task";
  EXPECT_TRUE(table().retry(2));
  EXPECT_FALSE(table().retry(2)) << "waiting";
  EXPECT_EQ(table().counts().of(FaultKind::kApplication), 2u);
  EXPECT_EQ(fail(grant_one()), FailOutcome::kWillRetry);
  EXPECT_EQ(table().retry_all(), 1u);
  EXPECT_EQ(table().state(0), kWaiting);
  EXPECT_TRUE(table().quarantined().empty());
}

TEST_F(TaskTableTest, AJobWithoutProgressIsStalled) {
  make(100, [](TaskOptions& options) { options.stall_after = 5; });
  const auto fail_some = [&](int count, FaultKind kind) {
    for (int i = 0; i < count; ++i) fail(grant_one(), kind);
  };
  fail_some(3, FaultKind::kApplication);
  fail_some(20, FaultKind::kNode);
  fail_some(1, FaultKind::kOutOfMemory);
  EXPECT_FALSE(table().stalled());
  table().commit(grant_one());
  fail_some(4, FaultKind::kApplication);
  EXPECT_FALSE(table().stalled());
  fail_some(1, FaultKind::kOutOfMemory);
  EXPECT_TRUE(table().stalled());
  EXPECT_EQ(table().failures_since_commit(), 5u);
  make(100);
  fail_some(90, FaultKind::kApplication);
  EXPECT_FALSE(table().stalled()) << "off unless asked for";
}

// Stop

TEST_F(TaskTableTest, AStopCancelsWhatHasNotEnded) {
  make(10, [](TaskOptions& options) { options.budgets.out_of_memory = 1; });
  const std::vector<Lease> leases = grant(4);
  table().commit(leases[0]);
  fail(leases[1]);
  fail(leases[2], FaultKind::kOutOfMemory);
  table().cancel_all();
  EXPECT_TRUE(table().ended());
  EXPECT_EQ(table().counts().in(kCancelled), 8u);
  EXPECT_EQ(table().counts().in(kWaiting), 0u);
  EXPECT_EQ(table().state(0), kDone);
  EXPECT_EQ(table().state(2), kQuarantined);
  EXPECT_EQ(table().state(9), kCancelled);
  EXPECT_EQ(table().commit(leases[3]), CommitOutcome::kStale);
  EXPECT_EQ(table().commit(leases[0]), CommitOutcome::kRepeated);
  EXPECT_EQ(table().worker_lost("a1", "lost", now_), 0u);
  EXPECT_TRUE(table().holders().empty());
  EXPECT_EQ(table().next_wakeup(), std::nullopt);
  pass_backoff();
  EXPECT_EQ(table().grantable(), 0u);
  EXPECT_TRUE(grant(10).empty());
  EXPECT_FALSE(table().retry(2));
  EXPECT_EQ(table().retry_all(), 0u);

  restart();
  table().cancel_all();
  EXPECT_EQ(table().counts().in(kCancelled), 8u);
  EXPECT_TRUE(grant(10).empty());
}

// Counts

TEST_F(TaskTableTest, EndedBelowIsWhereResultsHaveNoGaps) {
  make(5, [](TaskOptions& options) { options.budgets.application = 1; });
  const std::vector<Lease> leases = grant(4);
  table().commit(leases[1]);
  EXPECT_EQ(table().ended_below(), 0u);
  fail(leases[0]);
  EXPECT_EQ(table().ended_below(), 2u);
  table().commit(leases[3]);
  table().commit(leases[2]);
  EXPECT_EQ(table().ended_below(), 4u);
  table().retry(0);
  EXPECT_EQ(table().ended_below(), 0u);
  table().commit(grant_one());
  EXPECT_EQ(table().ended_below(), 4u);
  restart();
  EXPECT_EQ(table().ended_below(), 4u);
}

// Rows

TEST_F(TaskTableTest, ChangesAreOneRowATaskAndNoneForAnUntouchedOne) {
  make(1'000);
  EXPECT_TRUE(table().take_changes().empty());
  const std::vector<Lease> leases = grant(2);
  table().commit(leases[1]);
  const std::vector<TaskRecord> rows = table().take_changes();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0], table().record(0));
  EXPECT_EQ(rows[0].lease(), leases[0]);
  EXPECT_EQ(rows[1].state, kDone);
  EXPECT_TRUE(table().take_changes().empty());
  fail(leases[0]);
  EXPECT_EQ(table().take_changes().size(), 1u);
}

TEST_F(TaskTableTest, LeasesOutliveTheMaster) {
  make(4, [](TaskOptions& options) { options.budgets.application = 2; });
  const std::vector<Lease> leases = grant(3);
  fail(leases[0], FaultKind::kApplication, "exit code 9");
  table().commit(leases[2]);
  restart();
  EXPECT_EQ(table().holders(), (std::vector<LeaseHolder>{kAlice}));
  EXPECT_EQ(table().state(0), kBackingOff);
  EXPECT_GT(*table().next_wakeup(), now_);
  EXPECT_EQ(table().record(0).reason, "exit code 9");
  EXPECT_EQ(table().commit(leases[2]), CommitOutcome::kRepeated);
  EXPECT_EQ(table().commit(leases[1]), CommitOutcome::kCommitted);
  EXPECT_EQ(tasks_of(grant(9)), (Tasks{3}));
  pass_backoff();
  EXPECT_EQ(fail(grant_one()), FailOutcome::kQuarantined) << "the first failure still counts";
}

TEST_F(TaskTableTest, ALeaseThatWasNotWrittenIsUnknownAndNeverGrantedAgain) {
  make(3);
  const Lease lost = grant_one();  // its row dies with the master
  const Lease written = grant_one();
  rows_.clear();
  for (TaskRecord& row : table().take_changes()) {
    if (row.task == 1) rows_[1] = std::move(row);
  }
  restart();
  EXPECT_EQ(table().commit(lost), CommitOutcome::kUnknown);
  EXPECT_EQ(table().state(0), kWaiting);
  const Lease again = grant_one();
  EXPECT_EQ(again.task, 0u);
  EXPECT_EQ(again.attempt, lost.attempt);
  EXPECT_GT(again.epoch, written.epoch);
  EXPECT_EQ(table().commit(lost), CommitOutcome::kStale);
  EXPECT_EQ(table().commit(again), CommitOutcome::kCommitted);
}

TEST_F(TaskTableTest, ACancelledGapIsARowThatCanBeRead) {
  make(3);
  grant(2);
  rows_[1] = table().take_changes().at(1);
  restart();
  table().cancel_all();
  restart();
  EXPECT_EQ(table().state(0), kCancelled);
  EXPECT_EQ(table().record(0).attempt, 0u);
}

TEST_F(TaskTableTest, RowsThatNoTableWroteAreCorrupt) {
  make(2);
  fail(grant_one());
  const TaskRecord good = table().take_changes().at(0);
  const auto refusal = [&](std::vector<TaskRecord> rows) {
    TaskTable fresh(2, {});
    const Result<void> restored = fresh.restore(rows, now_);
    if (restored) return std::string("taken");
    EXPECT_EQ(restored.failure().kind, ErrorKind::kCorrupt);
    return restored.failure().message;
  };
  const auto changed = [&](auto change) {
    TaskRecord row = good;
    change(row);
    return row;
  };
  EXPECT_EQ(refusal({good}), "taken");
  EXPECT_EQ(refusal({good, good}), "row of task 0 (backing off): a second one for this task");
  EXPECT_EQ(refusal({changed([](TaskRecord& row) { row.task = 2; })}),
            "row of task 2 (backing off): the job has 2 tasks");
  EXPECT_EQ(refusal({changed([](TaskRecord& row) { row.attempt = 0; })}),
            "row of task 0 (backing off): no attempt");
  EXPECT_EQ(refusal({changed([](TaskRecord& row) { row.state = static_cast<TaskState>(6); })}),
            "row of task 0 (unknown): unknown state");
  EXPECT_EQ(refusal({changed([](TaskRecord& row) { row.last_fault.reset(); })}),
            "row of task 0 (backing off): failed without a fault");
  EXPECT_EQ(refusal({changed([](TaskRecord& row) { row.last_fault = static_cast<FaultKind>(4); })}),
            "row of task 0 (backing off): unknown fault");
}

TEST_F(TaskTableTest, PreconditionsAreChecked) {
  EXPECT_THROW(TaskTable(kMaxTasks + 1, {}), BugError);
  EXPECT_THROW(make(5, [](TaskOptions& options) { options.stage_size = 0; }), BugError);
  make(1);
  EXPECT_THROW(table().record(1), BugError);
  grant(1);
  EXPECT_THROW((void)table().restore({}, now_), BugError);
}

// No time is asserted; that this ends while somebody watches is the point.
TEST_F(TaskTableTest, TheLargestJobGoesThrough) {
  make(kMaxTasks);
  EXPECT_EQ(table().counts().in(kWaiting), kMaxTasks);
  make(1'000'000);
  while (!table().ended()) {
    for (const Lease& lease : grant(1000)) {
      ASSERT_EQ(table().commit(lease), CommitOutcome::kCommitted);
    }
  }
  const std::vector<TaskRecord> rows = table().take_changes();
  ASSERT_EQ(rows.size(), 1'000'000u);
  make(1'000'000);
  ASSERT_TRUE(table().restore(rows, now_));
  EXPECT_TRUE(table().ended());
  EXPECT_EQ(table().commit(rows[77].lease()), CommitOutcome::kRepeated);
}

}  // namespace
}  // namespace longhaul

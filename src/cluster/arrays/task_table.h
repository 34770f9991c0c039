// The tasks of one array job: who may run which, what has been committed, what is given up. Tasks
// are handed out as leases (lease.h); a commit is a compare-and-set on one.
//
//   from                 event                             to
//   waiting              grant                             leased
//   leased               commit                            done
//   leased               fail, worker lost                 backing off, or waiting (preemption)
//   leased               ... and that budget is spent      quarantined
//   leased               release                           waiting
//   backing off          its time has come                 waiting
//   quarantined          retry                             waiting
//   waiting, backing off, leased   cancel_all              cancelled
//
// Order of grants: the lowest task that waits. Tasks that were tried before are the lowest of all,
// so retries go ahead of new tasks: results are gathered in task order and wait for the first gap,
// and a poison task shows itself in the middle of the run instead of drawing out its end. Their
// backoff and budgets keep them from starving the others.
//
// Durability: the table collects what has changed as rows. The caller writes them, in the same
// transaction as the result of a task that is done, and answers the worker only after that. A task
// that was never granted has no row and takes no memory either.
//
// Thread safety: none; pure values, time comes in.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cluster/arrays/lease_epochs.h"
#include "cluster/arrays/task.h"
#include "cluster/failure/backoff.h"
#include "cluster/failure/fault_budget.h"
#include "longhaul/agent/lease.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/result.h"

namespace longhaul {

constexpr std::string_view kTaskRows = "tasks";  // see RowChangedEffect

struct TaskOptions {
  FaultBudgets budgets;
  Backoff backoff;
  uint64_t seed = 0;                    // of the backoff's jitter
  std::optional<TaskIndex> max_leased;  // at once; --array 0-999%50
  // Tasks come in stages of so many: none is granted before all of earlier stages have ended.
  std::optional<TaskIndex> stage_size;
  // See stalled(). Absent: never.
  std::optional<uint32_t> stall_after;
};

// What a lease is worth.
enum class LeaseStanding {
  kCurrent,
  kCommitted,  // its task is done, by this very lease
  kStale,      // it was lost, failed, given back or cancelled; another attempt may hold the task
  kUnknown,    // not on record: of another job, or granted by a master that died before writing it
};

enum class FailOutcome {
  kWillRetry,
  kQuarantined,
  kStale,  // not current: counts nothing
};

class TaskTable {
 public:
  // Precondition: size <= kMaxTasks.
  TaskTable(TaskIndex size, const TaskOptions& options);

  // Up to `count` leases. Fewer, or none, when no more tasks wait, the cap is reached or the stage
  // is not over.
  std::vector<Lease> grant(const LeaseHolder& holder, size_t count, LeaseEpochs& epochs,
                           Instant now);
  // How many grant() would give now if asked for all; 0 is exact, more may be too many where a
  // task of an earlier stage was retried.
  TaskIndex grantable() const;

  // The work of this lease is done, and its result may be kept. `ran_ms` here and below: see
  // TaskRecord.
  CommitOutcome commit(const Lease& lease, uint32_t ran_ms = kNotMeasured);

  // `reason` is one line for people. A preempted task waits again at once, others back off first.
  FailOutcome fail(const Lease& lease, FaultKind kind, std::string reason, Instant now,
                   uint32_t ran_ms = kNotMeasured);

  // All leases of this incarnation end as node faults. Returns how many those were.
  size_t worker_lost(const std::string& incarnation, const std::string& reason, Instant now);

  // Given back unused, by a worker that drains or never received it: counts nothing. Returns
  // whether it was current.
  bool release(const Lease& lease);

  // A quarantined task gets all budgets afresh. Returns whether there is one to retry.
  bool retry(TaskIndex task);
  size_t retry_all();

  // The job is stopped: what has not ended is cancelled, nothing is granted any more, and a commit
  // of a lease that ran is stale (a user who stopped a job does not want its results to grow).
  // Tasks without a row get none, so a master that restarts must call this for a stopped job again.
  void cancel_all();

  // Time passes. Call at next_wakeup(), or more often.
  void tick(Instant now);
  std::optional<Instant> next_wakeup() const;

  // Every task is done, quarantined or cancelled.
  bool ended() const;
  // All tasks below this one have ended: results up to here have no gaps but for those given up.
  TaskIndex ended_below() const;
  // None of the last `stall_after` attempts that ended has committed: the program is broken rather
  // than a task. Attempts that ended by node faults and preemption say nothing about the program
  // and do not count. Begins afresh after a restore.
  bool stalled() const;
  uint32_t failures_since_commit() const { return failures_since_commit_; }

  TaskIndex size() const { return size_; }
  const TaskOptions& options() const { return options_; }
  TaskCounts counts() const;
  // Precondition of both: task < size().
  TaskState state(TaskIndex task) const;
  TaskRecord record(TaskIndex task) const;
  LeaseStanding standing(const Lease& lease) const;
  // In task order.
  std::vector<TaskIndex> quarantined() const;
  std::vector<Lease> leases_of(const std::string& incarnation) const;
  // Those with leases. After a restore, one that does not register within its lease is lost.
  std::vector<LeaseHolder> holders() const;

  // One row for each task that has changed since the last call, as it is now.
  std::vector<TaskRecord> take_changes();
  // From the last row of each task that has one, in any order. Leases in them are current again,
  // since their workers may still run them; what backed off backs off once more from now, so that a
  // restart prolongs a backoff and never skips it. Precondition: a table that has just been made.
  // Errors: kCorrupt, for rows that no such table wrote; the table is of no use then.
  Result<void> restore(std::span<const TaskRecord> rows, Instant now);

 private:
  // 32 bytes, by the million.
  struct Task {
    LeaseEpoch epoch = 0;
    uint32_t attempt = 0;
    uint32_t holder = 0;  // index into holders_
    uint32_t ran_ms = kNotMeasured;
    FaultCounts failures{};
    std::optional<FaultKind> last_fault;
    TaskState state = TaskState::kWaiting;
    bool changed = false;  // listed in changed_
  };
  struct Holding {
    LeaseHolder holder;
    std::unordered_set<TaskIndex> tasks;  // leased
  };
  using Due = std::pair<Instant, TaskIndex>;
  template <typename T>
  using LowestFirst = std::priority_queue<T, std::vector<T>, std::greater<T>>;

  TaskIndex touched() const { return static_cast<TaskIndex>(tasks_.size()); }
  TaskIndex grant_limit() const;
  Task* current(const Lease& lease);
  uint32_t intern(const LeaseHolder& holder);
  void move(TaskIndex index, TaskState to);
  void end_lease(TaskIndex index, TaskState to);
  void back_off(TaskIndex index, Instant now);
  FailOutcome fail_attempt(TaskIndex index, FaultKind kind, std::string reason, Instant now);
  Result<void> restore_row(const TaskRecord& row, Instant now);

  TaskIndex size_;
  TaskOptions options_;
  std::deque<Task> tasks_;        // those ever granted, and none above; the others wait
  LowestFirst<TaskIndex> ready_;  // granted before and waiting
  LowestFirst<Due> backing_off_;
  std::deque<Holding> holders_;
  std::unordered_map<std::string, uint32_t> holder_by_incarnation_;
  std::map<TaskIndex, std::string> reasons_;  // of failed tasks that are not done
  std::vector<TaskIndex> changed_;
  TaskCounts touched_counts_;
  TaskIndex ended_below_ = 0;  // of those in tasks_
  uint32_t failures_since_commit_ = 0;
  bool cancelled_ = false;
};

}  // namespace longhaul

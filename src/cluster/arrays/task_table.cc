#include "cluster/arrays/task_table.h"

#include <algorithm>

#include "base/check.h"
#include "base/mix.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using enum TaskState;

// The table of the header.
constexpr std::array kMoves = {
    std::pair{kWaiting, kLeased},       std::pair{kLeased, kDone},
    std::pair{kLeased, kBackingOff},    std::pair{kLeased, kWaiting},
    std::pair{kLeased, kQuarantined},   std::pair{kBackingOff, kWaiting},
    std::pair{kQuarantined, kWaiting},  std::pair{kWaiting, kCancelled},
    std::pair{kBackingOff, kCancelled}, std::pair{kLeased, kCancelled},
};

bool may_move(TaskState from, TaskState to) {
  return std::ranges::find(kMoves, std::pair{from, to}) != kMoves.end();
}

Failure corrupt_row(const TaskRecord& row, std::string_view why) {
  return {ErrorKind::kCorrupt,
          str_cat("row of task ", row.task, " (", to_string(row.state), "): ", why)};
}

}  // namespace

TaskTable::TaskTable(TaskIndex size, const TaskOptions& options) : size_(size), options_(options) {
  // kMaxTasks of them take 320 MB.
  static_assert(sizeof(Task) == 32);
  LONGHAUL_CHECK(size <= kMaxTasks);
  LONGHAUL_CHECK(options.stage_size.value_or(1) > 0u);
}

// Leases

std::vector<Lease> TaskTable::grant(const LeaseHolder& holder, size_t count, LeaseEpochs& epochs,
                                    Instant now) {
  // So that a task whose backoff is over goes ahead of new ones.
  tick(now);
  const uint32_t holder_index = intern(holder);
  std::vector<Lease> leases;
  while (leases.size() < count && grantable() > 0) {
    if (ready_.empty()) {
      ready_.push(touched());
      tasks_.emplace_back();
      ++touched_counts_.in_state[static_cast<size_t>(kWaiting)];
    }
    const TaskIndex index = ready_.top();
    ready_.pop();
    Task& task = tasks_[index];
    task.epoch = epochs.next();
    task.holder = holder_index;
    ++task.attempt;
    move(index, kLeased);
    holders_[holder_index].tasks.insert(index);
    leases.push_back({index, task.attempt, task.epoch, holder.incarnation});
  }
  return leases;
}

// Tasks from here on belong to stages that have not begun.
TaskIndex TaskTable::grant_limit() const {
  if (!options_.stage_size) return size_;
  const uint64_t stage = ended_below() / *options_.stage_size;
  return static_cast<TaskIndex>(std::min<uint64_t>(size_, (stage + 1) * *options_.stage_size));
}

TaskIndex TaskTable::grantable() const {
  if (cancelled_) return 0;
  const TaskIndex limit = grant_limit();
  TaskIndex waiting = limit > touched() ? limit - touched() : 0;
  // How many of them lie below the limit could only be told by looking at all; that the lowest does
  // is enough for grant().
  if (!ready_.empty() && ready_.top() < limit) waiting += static_cast<TaskIndex>(ready_.size());
  if (!options_.max_leased) return waiting;
  const TaskIndex leased = touched_counts_.in(kLeased);
  return std::min(waiting, *options_.max_leased - std::min(*options_.max_leased, leased));
}

// All four parts of a lease must agree with the last grant of its task. What is older is stale;
// what is newer than the table was granted by a master that died before it wrote that down.
LeaseStanding TaskTable::standing(const Lease& lease) const {
  if (lease.task >= touched() || lease.attempt == 0) return LeaseStanding::kUnknown;
  const Task& task = tasks_[lease.task];
  if (lease.attempt > task.attempt) return LeaseStanding::kUnknown;
  const bool same = lease.attempt == task.attempt && lease.epoch == task.epoch &&
                    lease.incarnation == holders_[task.holder].holder.incarnation;
  if (same && task.state == kLeased) return LeaseStanding::kCurrent;
  if (same && task.state == kDone) return LeaseStanding::kCommitted;
  return LeaseStanding::kStale;
}

CommitOutcome TaskTable::commit(const Lease& lease, uint32_t ran_ms) {
  switch (standing(lease)) {
    case LeaseStanding::kCurrent:
      reasons_.erase(lease.task);
      tasks_[lease.task].ran_ms = ran_ms;
      failures_since_commit_ = 0;
      end_lease(lease.task, kDone);
      return CommitOutcome::kCommitted;
    // The answer to the first commit was lost.
    case LeaseStanding::kCommitted:
      return CommitOutcome::kRepeated;
    case LeaseStanding::kStale:
      return CommitOutcome::kStale;
    case LeaseStanding::kUnknown:
      break;
  }
  return CommitOutcome::kUnknown;
}

FailOutcome TaskTable::fail(const Lease& lease, FaultKind kind, std::string reason, Instant now,
                            uint32_t ran_ms) {
  if (standing(lease) != LeaseStanding::kCurrent) return FailOutcome::kStale;
  tasks_[lease.task].ran_ms = ran_ms;
  return fail_attempt(lease.task, kind, std::move(reason), now);
}

size_t TaskTable::worker_lost(const std::string& incarnation, const std::string& reason,
                              Instant now) {
  const std::vector<Lease> leases = leases_of(incarnation);
  for (const Lease& lease : leases) fail(lease, FaultKind::kNode, reason, now);
  return leases.size();
}

bool TaskTable::release(const Lease& lease) {
  if (standing(lease) != LeaseStanding::kCurrent) return false;
  // The attempt keeps its number and the next one gets a higher one, so a late commit of this lease
  // stays stale.
  end_lease(lease.task, kWaiting);
  ready_.push(lease.task);
  return true;
}

FailOutcome TaskTable::fail_attempt(TaskIndex index, FaultKind kind, std::string reason,
                                    Instant now) {
  Task& task = tasks_[index];
  count_fault(task.failures, kind);
  ++touched_counts_.failures[static_cast<size_t>(kind)];
  task.last_fault = kind;
  reasons_[index] = std::move(reason);
  if (kind == FaultKind::kApplication || kind == FaultKind::kOutOfMemory) ++failures_since_commit_;

  // Only the budget of this kind is asked: nights of lost hosts do not use up what is left for the
  // program's own failures.
  if (options_.budgets.spent(task.failures, kind)) {
    end_lease(index, kQuarantined);
    return FailOutcome::kQuarantined;
  }
  if (kind == FaultKind::kPreemption) {
    end_lease(index, kWaiting);
    ready_.push(index);
  } else {
    end_lease(index, kBackingOff);
    back_off(index, now);
  }
  return FailOutcome::kWillRetry;
}

// The delay grows with the failures of the same kind. The jitter is a function of the attempt, so
// there is no generator whose state would have to be kept.
void TaskTable::back_off(TaskIndex index, Instant now) {
  const Task& task = tasks_[index];
  const uint64_t random = mix64(options_.seed ^ mix64(uint64_t{index} << 32 | task.attempt));
  const uint16_t failures = task.failures[static_cast<size_t>(*task.last_fault)];
  backing_off_.emplace(now + options_.backoff.delay(failures, random), index);
}

// Holders are never removed, because the row of each task names the last one. There are as many as
// incarnations of workers that have run tasks of this job.
uint32_t TaskTable::intern(const LeaseHolder& holder) {
  const auto [known, added] = holder_by_incarnation_.try_emplace(
      holder.incarnation, static_cast<uint32_t>(holders_.size()));
  if (added) holders_.push_back({holder, {}});
  return known->second;
}

void TaskTable::end_lease(TaskIndex index, TaskState to) {
  holders_[tasks_[index].holder].tasks.erase(index);
  move(index, to);
}

void TaskTable::move(TaskIndex index, TaskState to) {
  Task& task = tasks_[index];
  LONGHAUL_CHECK(may_move(task.state, to));
  --touched_counts_.in_state[static_cast<size_t>(task.state)];
  ++touched_counts_.in_state[static_cast<size_t>(to)];
  task.state = to;
  // It goes back only when a task that had ended waits again (retry()), so over the life of a job
  // the loop looks at each task about once.
  if (to == kWaiting) ended_below_ = std::min(ended_below_, index);
  while (ended_below_ < touched() && has_ended(tasks_[ended_below_].state)) ++ended_below_;
  if (!std::exchange(task.changed, true)) changed_.push_back(index);
}

// The whole job

bool TaskTable::retry(TaskIndex index) {
  if (cancelled_ || index >= touched() || tasks_[index].state != kQuarantined) return false;
  Task& task = tasks_[index];
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    touched_counts_.failures[kind] -= task.failures[kind];
  }
  task.failures = {};
  failures_since_commit_ = 0;
  move(index, kWaiting);
  ready_.push(index);
  return true;
}

size_t TaskTable::retry_all() {
  size_t retried = 0;
  for (const TaskIndex index : quarantined()) retried += retry(index) ? 1 : 0;
  return retried;
}

void TaskTable::cancel_all() {
  cancelled_ = true;
  ready_ = {};
  backing_off_ = {};
  // Workers are told to stop; whatever they still say of these leases is stale.
  for (Holding& holding : holders_) holding.tasks.clear();
  for (TaskIndex index = 0; index < touched(); ++index) {
    if (!has_ended(tasks_[index].state)) move(index, kCancelled);
  }
}

void TaskTable::tick(Instant now) {
  while (!backing_off_.empty() && backing_off_.top().first <= now) {
    const TaskIndex index = backing_off_.top().second;
    backing_off_.pop();
    move(index, kWaiting);
    ready_.push(index);
  }
}

std::optional<Instant> TaskTable::next_wakeup() const {
  if (backing_off_.empty()) return std::nullopt;
  return backing_off_.top().first;
}

bool TaskTable::ended() const {
  return ended_below() == size_;
}

TaskIndex TaskTable::ended_below() const {
  return cancelled_ ? size_ : ended_below_;
}

bool TaskTable::stalled() const {
  return options_.stall_after && failures_since_commit_ >= *options_.stall_after;
}

TaskCounts TaskTable::counts() const {
  TaskCounts counts = touched_counts_;
  counts.in_state[static_cast<size_t>(cancelled_ ? kCancelled : kWaiting)] += size_ - touched();
  return counts;
}

TaskState TaskTable::state(TaskIndex index) const {
  LONGHAUL_CHECK(index < size_);
  if (index < touched()) return tasks_[index].state;
  return cancelled_ ? kCancelled : kWaiting;
}

TaskRecord TaskTable::record(TaskIndex index) const {
  TaskRecord record;
  record.task = index;
  record.state = state(index);
  if (index >= touched()) return record;
  const Task& task = tasks_[index];
  record.attempt = task.attempt;
  record.epoch = task.epoch;
  if (task.attempt > 0) record.holder = holders_[task.holder].holder;
  record.failures = task.failures;
  record.last_fault = task.last_fault;
  record.ran_ms = task.ran_ms;
  const auto reason = reasons_.find(index);
  if (reason != reasons_.end()) record.reason = reason->second;
  return record;
}

std::vector<TaskIndex> TaskTable::quarantined() const {
  std::vector<TaskIndex> found;
  for (const auto& [index, reason] : reasons_) {
    if (tasks_[index].state == kQuarantined) found.push_back(index);
  }
  return found;
}

std::vector<Lease> TaskTable::leases_of(const std::string& incarnation) const {
  std::vector<Lease> leases;
  const auto holder = holder_by_incarnation_.find(incarnation);
  if (holder == holder_by_incarnation_.end()) return leases;
  for (const TaskIndex index : holders_[holder->second].tasks) {
    leases.push_back({index, tasks_[index].attempt, tasks_[index].epoch, incarnation});
  }
  std::ranges::sort(leases, {}, &Lease::task);
  return leases;
}

std::vector<LeaseHolder> TaskTable::holders() const {
  std::vector<LeaseHolder> found;
  for (const Holding& holding : holders_) {
    if (!holding.tasks.empty()) found.push_back(holding.holder);
  }
  return found;
}

// Rows

std::vector<TaskRecord> TaskTable::take_changes() {
  std::vector<TaskRecord> rows;
  rows.reserve(changed_.size());
  for (const TaskIndex index : changed_) {
    tasks_[index].changed = false;
    rows.push_back(record(index));
  }
  changed_.clear();
  return rows;
}

Result<void> TaskTable::restore(std::span<const TaskRecord> rows, Instant now) {
  LONGHAUL_CHECK(tasks_.empty());
  TaskIndex touched_before = 0;
  for (const TaskRecord& row : rows) {
    if (row.task >= size_) return corrupt_row(row, str_cat("the job has ", size_, " tasks"));
    touched_before = std::max(touched_before, row.task + 1);
  }
  tasks_.resize(touched_before);
  std::vector<bool> seen(touched_before);
  for (const TaskRecord& row : rows) {
    if (seen[row.task]) return corrupt_row(row, "a second one for this task");
    seen[row.task] = true;
    if (Result<void> taken = restore_row(row, now); !taken) return taken;
  }
  for (TaskIndex index = 0; index < touched(); ++index) {
    const TaskState state = tasks_[index].state;
    ++touched_counts_.in_state[static_cast<size_t>(state)];
    // Also a task without a row of its own: a grant of it was never on disk, so it has not left the
    // master.
    if (state == kWaiting) ready_.push(index);
    if (has_ended(state) && ended_below_ == index) ++ended_below_;
  }
  return {};
}

Result<void> TaskTable::restore_row(const TaskRecord& row, Instant now) {
  Task& task = tasks_[row.task];
  if (static_cast<size_t>(row.state) >= kTaskStates) return corrupt_row(row, "unknown state");
  if (row.attempt == 0 && row.state != kWaiting && row.state != kCancelled) {
    return corrupt_row(row, "no attempt");
  }
  const bool failed = row.state == kBackingOff || row.state == kQuarantined;
  if (failed && !row.last_fault) return corrupt_row(row, "failed without a fault");
  if (row.last_fault && static_cast<size_t>(*row.last_fault) >= kFaultKinds) {
    return corrupt_row(row, "unknown fault");
  }

  task.epoch = row.epoch;
  task.attempt = row.attempt;
  if (row.attempt > 0) task.holder = intern(row.holder);
  task.failures = row.failures;
  task.last_fault = row.last_fault;
  task.ran_ms = row.ran_ms;
  task.state = row.state;
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    touched_counts_.failures[kind] += row.failures[kind];
  }
  if (row.last_fault && row.state != kDone) reasons_[row.task] = row.reason;
  if (row.state == kLeased) holders_[task.holder].tasks.insert(row.task);
  if (row.state == kBackingOff) back_off(row.task, now);
  return {};
}

}  // namespace longhaul

#include "cluster/arrays/task_array.h"

#include <algorithm>
#include <utility>

namespace longhaul {
namespace {

// In the status, for people; all of them are in the table.
constexpr size_t kShownGivenUp = 20;
// From an input that could not be read to the next try.
constexpr milliseconds kInputPause{1'000};

// A failed attempt, whose fault it was, in one line.
struct Fault {
  FaultKind kind = FaultKind::kApplication;
  std::string reason;
};

// nullopt: it succeeded. The order matters: a preempted worker stops its tasks by signals, and the
// OOM killer sends one, so both are asked for before a signal counts as the program's own failure.
std::optional<Fault> fault_of(const TaskEndedMessage& message) {
  if (!message.refused.empty()) {
    return Fault{message.host_fault ? FaultKind::kNode : FaultKind::kApplication, message.refused};
  }
  const RankExit& exit = message.exit;
  const std::string said = exit.last_lines.empty() ? "" : ": " + exit.last_lines.back();
  if (!exit.launch_error.empty()) return Fault{FaultKind::kApplication, exit.launch_error};
  if (exit.preempted) return Fault{FaultKind::kPreemption, "its worker was told to stop"};
  if (exit.stopped_by_us) return Fault{FaultKind::kPreemption, "stopped by its worker"};
  const ExitEvidence& evidence = exit.evidence;
  if (!evidence.out_of_memory.empty() || says_out_of_memory(evidence.exception)) {
    return Fault{
        FaultKind::kOutOfMemory,
        str_cat("ran out of memory: ",
                evidence.out_of_memory.empty() ? evidence.exception : evidence.out_of_memory)};
  }
  if (exit.signal != 0) {
    return Fault{FaultKind::kApplication, str_cat("ended by ", signal_name(exit.signal), said)};
  }
  if (exit.exit_code != 0) {
    return Fault{FaultKind::kApplication, str_cat("exited with code ", exit.exit_code, said)};
  }
  return std::nullopt;
}

// 0: what a job that asks for nothing gets.
uint16_t budget(int attempts, uint16_t unasked) {
  if (attempts < 1) return unasked;
  return static_cast<uint16_t>(std::min<int>(attempts, FaultBudgets::kUnlimited));
}

}  // namespace

void TaskArray::make() {
  const ArrayJobSpec& array = *spec().array;
  TaskOptions options;
  options.budgets.application = budget(array.max_attempts, options.budgets.application);
  options.budgets.out_of_memory = budget(array.max_oom_attempts, options.budgets.out_of_memory);
  options.budgets.preemption = budget(array.max_preemptions, options.budgets.preemption);
  options.seed = job_.number;
  options.stall_after = site_.options.stall_after;
  if (array.max_at_once > 0) options.max_leased = array.max_at_once;
  tasks_.emplace(array.tasks, options);
  // Without indices each task has an input of its own, and is called by its place.
  if (const Result<ArraySpec> indices = ArraySpec::parse(array.indices); indices) {
    if (indices->size() == array.tasks) indices_ = *indices;
  }
  count_tasks();
}

void TaskArray::count_tasks() {
  ArrayStatus status;
  status.counts = tasks_->counts();
  status.ended_below = tasks_->ended_below();
  // The list is made anew only when the number has changed, since making it looks at all tasks that
  // have failed.
  const TaskIndex given_up = status.counts.in(TaskState::kQuarantined);
  std::optional<ArrayStatus>& known = job_.status.array;
  if (known && known->counts.in(TaskState::kQuarantined) == given_up) {
    status.given_up = std::move(known->given_up);
  } else if (given_up > 0) {
    for (const TaskIndex task : tasks_->quarantined()) {
      if (status.given_up.size() == kShownGivenUp) break;
      status.given_up.push_back({called(task), tasks_->record(task).reason});
    }
  }
  known = std::move(status);
}

// Mostly not urgent: a master that is restarted counts the tasks again from their rows, so the
// job's own row need not be written with each.
void TaskArray::tasks_changed(bool urgent) {
  count_tasks();
  site_.row_changed(kTaskRows, id());
  changed(urgent);
}

std::string TaskArray::size() const {
  return str_cat(spec().array->tasks, " tasks");
}

uint64_t TaskArray::called(TaskIndex task) const {
  return indices_ ? indices_->index(task) : task;
}

Result<TaskIndex> TaskArray::task_called(uint64_t called) const {
  const TaskIndex tasks = tasks_->size();
  if (!indices_ && called < tasks) return static_cast<TaskIndex>(called);
  if (!indices_) {
    return Failure{ErrorKind::kInvalid, str_cat("no task of job ", id(), " is called ", called,
                                                ": they are 0 to ", tasks - 1)};
  }
  if (const std::optional<TaskIndex> task = indices_->task(called)) return *task;
  return Failure{ErrorKind::kInvalid, str_cat("no task of job ", id(), " is called ", called,
                                              ": they are ", spec().array->indices)};
}

// --- What it wants and holds

std::optional<WaitingJob> TaskArray::waiting(Now now) const {
  if (state() != JobState::kPending && state() != JobState::kRunning) return std::nullopt;
  // An input could not be read a moment ago.
  if (retry_at_) return std::nullopt;
  const auto batch = static_cast<size_t>(std::max(1, spec().array->batch));
  const TaskCounts counts = tasks_->counts();
  const size_t all = counts.in(TaskState::kWaiting) + counts.in(TaskState::kBackingOff);
  if (all == 0) return std::nullopt;
  WaitingJob waiting = waiting_job(now);
  waiting.tasks.emplace();
  waiting.tasks->now = (tasks_->grantable() + batch - 1) / batch;
  waiting.tasks->more = waiting.tasks->now * batch < all;
  return waiting;
}

RunningJob TaskArray::running(Now now) const {
  RunningJob running{id(), {}, ends_at_the_latest(now), true};
  const Resources each = spec().demand().each;
  std::map<WorkerId, int> count;
  for (const auto& [epoch, batch] : batches_) ++count[batch.holder.worker];
  for (const auto& [worker, batches] : count) running.taken.push_back({worker, each * batches});
  return running;
}

std::set<WorkerId> TaskArray::holders() const {
  std::set<WorkerId> holders;
  for (const auto& [epoch, batch] : batches_) holders.insert(batch.holder.worker);
  return holders;
}

void TaskArray::granted(const JobStart& start, Now now) {
  for (const auto& [worker, slots] : start.slots) {
    grant_tasks(*site_.workers.find(worker), slots, now);
  }
}

// Takes leases for so many slots of a worker, as far as there are tasks. The grant leaves the
// master once the rows of its leases are on disk. If it gets lost on its way the worker does not
// name these leases when it registers again, and worker_back() gives them back.
void TaskArray::grant_tasks(const WorkerRecord& worker, int slots, Now now) {
  if (state() != JobState::kPending && state() != JobState::kRunning) return;
  if (slots < 1 || !worker.takes_work()) return;
  const LeaseHolder holder{worker.id, worker.registration.incarnation};
  const auto batch_size = static_cast<size_t>(std::max(1, spec().array->batch));
  const int gpus = spec().gpus_per_rank;
  std::vector<TaskBatch> batches;
  for (int slot = 0; slot < slots; ++slot) {
    TaskBatch batch{tasks_->grant(holder, batch_size, site_.epochs, now.instant), {}};
    if (batch.leases.empty()) break;
    // Devices belong to the slot: the tasks of a batch use the same ones, one after the other.
    if (gpus > 0) batch.gpus = site_.use[worker.id].free_gpus(worker.registration.gpus, gpus);
    hold_batch(holder, batch.leases.front().epoch, batch);
    batches.push_back(std::move(batch));
  }
  if (batches.empty()) return;
  if (state() == JobState::kPending) {
    start_clock(now);
    advance(JobEvent::kTasksGranted, now);
    happened(EventKind::kJobStarted, str_cat("the first of ", tasks_->size(), " tasks"));
  }
  tasks_changed(/*urgent=*/false);
  site_.send(worker.id, GrantTasksMessage{launch(), spec(), std::move(batches)});
}

void TaskArray::hold_batch(const LeaseHolder& holder, LeaseEpoch id, const TaskBatch& tasks) {
  Batch& batch = batches_[id];
  batch.holder = holder;
  batch.open += tasks.leases.size();
  batch.gpus = tasks.gpus;
  for (const Lease& lease : tasks.leases) batch_of_[lease.epoch] = id;
  site_.use[holder.worker].take(spec().demand().each, batch.gpus);
}

void TaskArray::drop_batch(const Batch& batch) {
  site_.use[batch.holder.worker].give_back(spec().demand().each, batch.gpus);
}

// Its slot is free, whatever becomes of its leases.
TaskArray::Batches::iterator TaskArray::forget_batch(Batches::iterator batch) {
  drop_batch(batch->second);
  std::erase_if(batch_of_, [&](const auto& entry) { return entry.second == batch->first; });
  return batches_.erase(batch);
}

// One lease of a batch has ended. The slot is free when the last one has, because the tasks of a
// batch share it one after the other.
void TaskArray::close_lease(LeaseEpoch epoch) {
  const auto found = batch_of_.find(epoch);
  if (found == batch_of_.end()) return;
  const auto batch = batches_.find(found->second);
  batch_of_.erase(found);
  if (--batch->second.open > 0) return;
  drop_batch(batch->second);
  batches_.erase(batch);
}

void TaskArray::close_all_leases() {
  awaited_.clear();
  while (!batch_of_.empty()) close_lease(batch_of_.begin()->first);
}

// --- What becomes of its tasks

CommitOutcome TaskArray::task_ended(const TaskEndedMessage& message, Now now) {
  CommitOutcome outcome = CommitOutcome::kStale;
  const std::optional<Fault> fault = fault_of(message);
  if (message.exit.launch_error.empty()) {
    some_task_ran_ = true;
  } else {
    // For an array of which no task could ever be started; see review().
    start_code_ = message.exit.exit_code;
  }
  if (!fault) {
    outcome = tasks_->commit(message.lease, message.ran_ms);
  } else if (tasks_->fail(message.lease, fault->kind, fault->reason, now.instant, message.ran_ms) !=
             FailOutcome::kStale) {
    outcome = CommitOutcome::kRepeated;  // taken, and there is no result to be made durable
    last_fault_ = fault->reason;
  }
  // Also for a lease that counts no more: a worker says this only once nothing of the task runs any
  // longer.
  close_lease(message.lease.epoch);
  return outcome;
}

void TaskArray::tasks_have_ended(Now now) {
  tasks_changed(/*urgent=*/false);
  review(now);
}

void TaskArray::input_missing(const Lease& lease, const Failure& why, Now now) {
  if (tasks_->standing(lease) != LeaseStanding::kCurrent) return;
  if (why.kind == ErrorKind::kCorrupt) {
    last_fault_ = why.message;
    // It can never be read, so the attempts are used up soon and the task is given up with this
    // reason.
    tasks_->fail(lease, FaultKind::kApplication, why.message, now.instant);
  } else {
    tasks_->release(lease);
    retry_at_ = now.instant + kInputPause;
    note(": an input cannot be read now: ", why.message);
  }
  close_lease(lease.epoch);
  tasks_have_ended(now);
}

std::string TaskArray::why_given_up(TaskIndex given_up) const {
  const GivenUpTask& first = job_.status.array->given_up.front();
  return str_cat(given_up, " of ", tasks_->size(), given_up == 1 ? " tasks was" : " tasks were",
                 " given up; task ", first.task, ": ", first.reason);
}

void TaskArray::review(Now now) {
  if (state() == JobState::kStopping) return review_stopping(now);
  if (state() != JobState::kRunning) return;
  const TaskCounts counts = tasks_->counts();
  const TaskIndex given_up = counts.in(TaskState::kQuarantined);
  // If no task could ever be started, the job exits with the code that a shell gives for such a
  // program.
  const bool ran = some_task_ran_ || counts.in(TaskState::kDone) > 0;
  const int exit_code = ran ? 0 : start_code_;
  if (tasks_->ended() && given_up == 0) {
    advance(JobEvent::kAllSucceeded, now);
  } else if (tasks_->ended()) {
    count_tasks();
    fail({FailureClass::kTasks, std::nullopt, "", why_given_up(given_up), false, exit_code}, now);
  } else if (tasks_->stalled()) {
    fail({FailureClass::kTasks, std::nullopt, "",
          str_cat("none of the last ", site_.options.stall_after,
                  " attempts succeeded; the last one: ", last_fault_),
          false, exit_code},
         now);
  }
}

void TaskArray::tell_to_stop(Now) {
  // Results that come from here on are stale. Slots stay in use until their workers have answered
  // (all_accounted()).
  tasks_->cancel_all();
  tasks_changed(/*urgent=*/true);
  send_stops();
}

void TaskArray::send_stops() {
  for (const WorkerId& worker : holders()) send_stop(worker);
}

void TaskArray::account_for_silent(Now) {
  close_all_leases();
}

void TaskArray::report() {
  job_.status.failure = make_report(*job_.verdict, {}, {});
}

void TaskArray::tick(Now now) {
  tasks_->tick(now.instant);
  site_.row_changed(kTaskRows, id());
}

// --- Workers that go and come

// Ends the leases under this worker's id, but for those of the incarnation that is there now: a
// worker that was restarted has registered before its predecessor is reported as lost.
void TaskArray::worker_lost(const WorkerId& id, const std::string& why, bool, Now now) {
  awaited_.erase(id);
  const WorkerRecord* worker = site_.workers.find(id);
  const bool there = worker != nullptr && worker->state != WorkerState::kLost;
  const std::string living = there ? worker->registration.incarnation : "";
  std::set<std::string> gone;
  for (auto batch = batches_.begin(); batch != batches_.end();) {
    const LeaseHolder& holder = batch->second.holder;
    if (holder.worker != id || holder.incarnation == living) {
      ++batch;
      continue;
    }
    gone.insert(holder.incarnation);
    batch = forget_batch(batch);
  }
  if (gone.empty()) return;
  for (const std::string& incarnation : gone) {
    tasks_->worker_lost(incarnation, str_cat("worker ", id, " was lost: ", why), now.instant);
  }
  tasks_changed(/*urgent=*/true);
  review(now);
}

// A worker is back and names the leases that it has; it keeps one until its end was answered. What
// it does not name has not arrived, or went down with its predecessor, and waits again. What it
// names and no longer owns it is told to drop. Its batches are made anew from what it says, since
// only the worker knows for sure which leases share a slot: restore() has guessed.
void TaskArray::worker_back(const WorkerRecord& worker, Now) {
  const std::string& incarnation = worker.registration.incarnation;
  awaited_.erase(worker.id);
  for (auto batch = batches_.begin(); batch != batches_.end();) {
    batch =
        batch->second.holder.incarnation == incarnation ? forget_batch(batch) : std::next(batch);
  }
  std::set<LeaseEpoch> held;
  std::map<LeaseEpoch, TaskBatch> batches;
  for (const HeldLease& one : worker.registration.leases) {
    if (one.launch != launch()) continue;
    Lease lease = one.lease;
    lease.incarnation = incarnation;
    // The leases of a job that is being stopped are all cancelled, but their slots are in use until
    // the worker says that they have ended.
    const bool ours =
        tasks_->standing(lease) == LeaseStanding::kCurrent || state() == JobState::kStopping;
    if (!ours) {
      site_.send(worker.id, TaskAnswersMessage{.taken = {}, .stale = {lease.epoch}});
      continue;
    }
    // The slot is taken again, with the devices that the worker says it has.
    held.insert(lease.epoch);
    batches[one.batch].leases.push_back(lease);
    batches[one.batch].gpus = one.gpus;
  }
  for (const auto& [id, batch] : batches) hold_batch({worker.id, incarnation}, id, batch);
  for (const Lease& lease : tasks_->leases_of(incarnation)) {
    if (!held.contains(lease.epoch)) tasks_->release(lease);
  }
  tasks_changed(/*urgent=*/true);
  if (state() == JobState::kStopping) send_stop(worker.id);
}

void TaskArray::restore(ClusterMemory& memory, Now now) {
  make();
  if (const Result<void> restored = tasks_->restore(memory.tasks[id()], now.instant); !restored) {
    note(": ", restored.failure().message);
    if (job_.damage.empty()) job_.damage = restored.failure().message;
    make();  // one that was restored in part is of no use
  }
  if (ended() || state() == JobState::kStopping || !job_.damage.empty()) tasks_->cancel_all();
  count_tasks();
  if (ended()) return;
  if (state() == JobState::kStopping) {
    // Who holds a task that was cancelled is not on disk: each worker says so when it is back.
    for (const auto& [id, worker] : site_.workers.all()) {
      if (worker.state != WorkerState::kLost) awaited_.insert(id);
    }
  }
  // Which leases share a slot is not on disk. Until their worker says so (worker_back()), they are
  // taken to use as few slots as they can: the epochs of a batch follow each other.
  const auto batch = static_cast<LeaseEpoch>(spec().array->batch);
  for (const LeaseHolder& holder : tasks_->holders()) {
    std::map<LeaseEpoch, Lease> leases;
    for (const Lease& lease : tasks_->leases_of(holder.incarnation)) leases[lease.epoch] = lease;
    while (!leases.empty()) {
      const LeaseEpoch first = leases.begin()->first;
      TaskBatch shared;  // its worker says which GPUs it has
      while (!leases.empty() && leases.begin()->first < first + batch) {
        shared.leases.push_back(leases.extract(leases.begin()).mapped());
      }
      hold_batch(holder, first, shared);
    }
  }
}

}  // namespace longhaul

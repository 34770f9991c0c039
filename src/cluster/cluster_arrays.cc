// The part of ClusterState that hands out the tasks of arrays and takes back what became of them.
// The tasks themselves are a TaskTable; here it meets workers and slots: so many tasks as the job's
// batch says go to one slot, and the slot is free again when the last of them has ended.
#include <algorithm>
#include <set>

#include "cluster/cluster_state.h"

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

void ClusterState::make_tasks(Job& job) {
  const ArrayJobSpec& array = *job.status.spec.array;
  TaskOptions options;
  options.budgets.application = budget(array.max_attempts, options.budgets.application);
  options.budgets.out_of_memory = budget(array.max_oom_attempts, options.budgets.out_of_memory);
  options.budgets.preemption = budget(array.max_preemptions, options.budgets.preemption);
  options.seed = job.number;
  options.stall_after = options_.stall_after;
  if (array.max_at_once > 0) options.max_leased = array.max_at_once;
  job.tasks.emplace(array.tasks, options);
  if (const Result<ArraySpec> indices = ArraySpec::parse(array.indices); indices) {
    if (indices->size() == array.tasks) job.indices = *indices;
  }
  count_tasks(job);
}

void ClusterState::count_tasks(Job& job) {
  ArrayStatus status;
  status.counts = job.tasks->counts();
  status.ended_below = job.tasks->ended_below();
  const TaskIndex given_up = status.counts.in(TaskState::kQuarantined);
  if (job.status.array && job.status.array->counts.in(TaskState::kQuarantined) == given_up) {
    status.given_up = std::move(job.status.array->given_up);
  } else if (given_up > 0) {
    for (const TaskIndex task : job.tasks->quarantined()) {
      if (status.given_up.size() == kShownGivenUp) break;
      status.given_up.push_back({job.called(task), job.tasks->record(task).reason});
    }
  }
  job.status.array = std::move(status);
}

uint64_t ClusterState::Job::called(TaskIndex task) const {
  return indices ? indices->index(task) : task;
}

Result<TaskIndex> ClusterState::task_called(const JobId& id, uint64_t called) const {
  const Job& job = jobs_.at(id);
  if (!job.tasks) {
    return Failure{ErrorKind::kInvalid, str_cat("job ", id, " is no array: it has ranks")};
  }
  const TaskIndex tasks = job.tasks->size();
  if (!job.indices && called < tasks) return static_cast<TaskIndex>(called);
  if (!job.indices) {
    return Failure{ErrorKind::kInvalid, str_cat("no task of job ", id, " is called ", called,
                                                ": they are 0 to ", tasks - 1)};
  }
  if (const std::optional<TaskIndex> task = job.indices->task(called)) return *task;
  return Failure{ErrorKind::kInvalid, str_cat("no task of job ", id, " is called ", called,
                                              ": they are ", job.status.spec.array->indices)};
}

// Leases for so many slots of a worker, as far as there are tasks.
void ClusterState::grant_tasks(Job& job, const WorkerRecord& worker, int slots, Now now) {
  if (slots < 1 || worker.state != WorkerState::kReady || !worker.session) return;
  const LeaseHolder holder{worker.id, worker.registration.incarnation};
  const auto batch_size = static_cast<size_t>(std::max(1, job.status.spec.array->batch));
  const int gpus = job.status.spec.gpus_per_rank;
  std::vector<TaskBatch> batches;
  for (int slot = 0; slot < slots; ++slot) {
    TaskBatch batch{job.tasks->grant(holder, batch_size, epochs_, now.instant), {}};
    if (batch.leases.empty()) break;
    if (gpus > 0) batch.gpus = use_[worker.id].free_gpus(worker.registration.gpus, gpus);
    hold_batch(job, holder, batch.leases.front().epoch, batch);
    batches.push_back(std::move(batch));
  }
  if (batches.empty()) return;
  if (job.status.state == JobState::kPending) {
    start_clock(job, now);
    advance(job, JobEvent::kTasksGranted, now);
    happened(EventKind::kJobStarted, job, str_cat("the first of ", job.tasks->size(), " tasks"));
  }
  tasks_changed(job, /*urgent=*/false);
  send(worker.id, GrantTasksMessage{job.launch(), job.status.spec, std::move(batches)});
}

void ClusterState::hold_batch(Job& job, const LeaseHolder& holder, LeaseEpoch id,
                              const TaskBatch& tasks) {
  Batch& batch = job.batches[id];
  batch.holder = holder;
  batch.open += tasks.leases.size();
  batch.gpus = tasks.gpus;
  for (const Lease& lease : tasks.leases) job.batch_of[lease.epoch] = id;
  use_[holder.worker].take(job.status.spec.demand().each, batch.gpus);
}

void ClusterState::drop_batch(const Job& job, const Batch& batch) {
  use_[batch.holder.worker].give_back(job.status.spec.demand().each, batch.gpus);
}

// One lease less; with the last one of its batch the slot is free.
void ClusterState::close_lease(Job& job, LeaseEpoch epoch) {
  const auto found = job.batch_of.find(epoch);
  if (found == job.batch_of.end()) return;
  const auto batch = job.batches.find(found->second);
  job.batch_of.erase(found);
  if (--batch->second.open > 0) return;
  drop_batch(job, batch->second);
  job.batches.erase(batch);
}

// Tasks of arrays into what has become free of one worker, but for those behind a gang that waits:
// a plan says what they may have.
void ClusterState::refill(const WorkerId& id, Now now) {
  const WorkerRecord* worker = workers_.find(id);
  if (worker == nullptr) return;
  for (const auto& [place, job_id] : active_arrays_) {
    if (reserved_ && place > *reserved_) return;
    Job& job = jobs_.at(job_id);
    const JobState state = job.status.state;
    if (state != JobState::kPending && state != JobState::kRunning) continue;
    if (job.retry_at) continue;
    const Resources free = free_of(*worker);
    if (free.slots == 0) return;
    grant_tasks(job, *worker, how_many(free, job.status.spec.demand().each), now);
  }
}

CommitOutcome ClusterState::end_task(Job& job, const TaskEndedMessage& message, Now now) {
  CommitOutcome outcome = CommitOutcome::kStale;
  const std::optional<Fault> fault = fault_of(message);
  if (message.exit.launch_error.empty()) {
    job.some_task_ran = true;
  } else {
    job.start_code = message.exit.exit_code;
  }
  if (!fault) {
    outcome = job.tasks->commit(message.lease, message.ran_ms);
  } else if (job.tasks->fail(message.lease, fault->kind, fault->reason, now.instant,
                             message.ran_ms) != FailOutcome::kStale) {
    outcome = CommitOutcome::kRepeated;  // taken; there is no result
    job.last_fault = fault->reason;
  }
  close_lease(job, message.lease.epoch);
  return outcome;
}

std::vector<CommitOutcome> ClusterState::tasks_ended(SessionId session,
                                                     const std::vector<TaskEndedMessage>& messages,
                                                     Now now) {
  if (!heard(session, now)) return {};
  const WorkerRecord* worker = workers_.by_session(session);
  std::vector<CommitOutcome> outcomes;
  outcomes.reserve(messages.size());
  TaskAnswersMessage answers;
  std::set<JobId> jobs;
  for (const TaskEndedMessage& message : messages) {
    CommitOutcome outcome = CommitOutcome::kUnknown;
    const auto found = jobs_.find(message.launch.job);
    if (found != jobs_.end() && found->second.tasks && message.launch.life == life_ &&
        message.lease.incarnation == worker->registration.incarnation) {
      outcome = end_task(found->second, message, now);
      jobs.insert(found->first);
    }
    const bool taken = outcome == CommitOutcome::kCommitted || outcome == CommitOutcome::kRepeated;
    (taken ? answers.taken : answers.stale).push_back(message.lease.epoch);
    outcomes.push_back(outcome);
  }
  for (const JobId& id : jobs) {
    Job& job = jobs_.at(id);
    tasks_changed(job, /*urgent=*/false);
    review_array(job, now);
  }
  effects_.emplace_back(SendEffect{session, std::move(answers)});
  refill(worker->id, now);
  if (reserved_) schedule_soon(now);
  return outcomes;
}

void ClusterState::input_missing(const LaunchId& launch, const Lease& lease, const Failure& why,
                                 Now now) {
  Job* job = job_of(launch);
  if (job == nullptr || !job->tasks || job->tasks->standing(lease) != LeaseStanding::kCurrent) {
    return;
  }
  if (why.kind == ErrorKind::kCorrupt) {
    job->last_fault = why.message;
    job->tasks->fail(lease, FaultKind::kApplication, why.message, now.instant);
  } else {
    job->tasks->release(lease);
    job->retry_at = now.instant + kInputPause;
    note("job ", job->status.id, ": an input cannot be read now: ", why.message);
  }
  close_lease(*job, lease.epoch);
  tasks_changed(*job, /*urgent=*/false);
  review_array(*job, now);
}

void ClusterState::review_array(Job& job, Now now) {
  if (job.status.state == JobState::kStopping) {
    review_stopping(job, now);
    return;
  }
  if (job.status.state != JobState::kRunning) return;
  const TaskCounts counts = job.tasks->counts();
  const TaskIndex given_up = counts.in(TaskState::kQuarantined);
  // A program that was never started: as a shell says it.
  const bool ran = job.some_task_ran || counts.in(TaskState::kDone) > 0;
  const int exit_code = ran ? 0 : job.start_code;
  if (job.tasks->ended() && given_up == 0) {
    advance(job, JobEvent::kAllSucceeded, now);
  } else if (job.tasks->ended()) {
    count_tasks(job);
    const GivenUpTask& first = job.status.array->given_up.front();
    fail(job,
         {FailureClass::kTasks, std::nullopt, "",
          str_cat(given_up, " of ", job.tasks->size(), given_up == 1 ? " tasks was" : " tasks were",
                  " given up; task ", first.task, ": ", first.reason),
          false, exit_code},
         now);
  } else if (job.tasks->stalled()) {
    fail(job,
         {FailureClass::kTasks, std::nullopt, "",
          str_cat("none of the last ", options_.stall_after,
                  " attempts succeeded; the last one: ", job.last_fault),
          false, exit_code},
         now);
  }
}

void ClusterState::tasks_changed(Job& job, bool urgent) {
  count_tasks(job);
  row_changed(kTaskRows, job.status.id);
  changed(job, urgent);
}

// Leases of this worker's id that are not of the incarnation that is there now.
void ClusterState::lose_leases(Job& job, const WorkerId& id, const std::string& why, Now now) {
  const WorkerRecord* worker = workers_.find(id);
  const bool there = worker != nullptr && worker->state != WorkerState::kLost;
  const std::string living = there ? worker->registration.incarnation : "";
  std::set<std::string> gone;
  for (auto batch = job.batches.begin(); batch != job.batches.end();) {
    const LeaseHolder& holder = batch->second.holder;
    if (holder.worker != id || holder.incarnation == living) {
      ++batch;
      continue;
    }
    gone.insert(holder.incarnation);
    drop_batch(job, batch->second);
    std::erase_if(job.batch_of, [&](const auto& entry) { return entry.second == batch->first; });
    batch = job.batches.erase(batch);
  }
  if (gone.empty()) return;
  for (const std::string& incarnation : gone) {
    job.tasks->worker_lost(incarnation, str_cat("worker ", id, " was lost: ", why), now.instant);
  }
  tasks_changed(job, /*urgent=*/true);
  review_array(job, now);
}

// A worker is back: it says which leases it still has. What it never received waits again; what is
// not its own any more is to be dropped there.
void ClusterState::resume_tasks(Job& job, const WorkerRecord& worker) {
  const std::string& incarnation = worker.registration.incarnation;
  for (auto batch = job.batches.begin(); batch != job.batches.end();) {
    if (batch->second.holder.incarnation != incarnation) {
      ++batch;
      continue;
    }
    drop_batch(job, batch->second);
    std::erase_if(job.batch_of, [&](const auto& entry) { return entry.second == batch->first; });
    batch = job.batches.erase(batch);
  }
  std::set<LeaseEpoch> held;
  std::map<LeaseEpoch, TaskBatch> batches;
  for (const HeldLease& one : worker.registration.leases) {
    if (one.launch != job.launch()) continue;
    Lease lease = one.lease;
    lease.incarnation = incarnation;
    // A stopped job's leases are current no more, but their slots are in use until they end.
    const bool ours = job.tasks->standing(lease) == LeaseStanding::kCurrent ||
                      job.status.state == JobState::kStopping;
    if (!ours) {
      send(worker.id, TaskAnswersMessage{.taken = {}, .stale = {lease.epoch}});
      continue;
    }
    held.insert(lease.epoch);
    batches[one.batch].leases.push_back(lease);
    batches[one.batch].gpus = one.gpus;
  }
  for (const auto& [id, batch] : batches) hold_batch(job, {worker.id, incarnation}, id, batch);
  for (const Lease& lease : job.tasks->leases_of(incarnation)) {
    if (!held.contains(lease.epoch)) job.tasks->release(lease);
  }
  tasks_changed(job, /*urgent=*/true);
  if (job.status.state == JobState::kStopping) send_stop(job, worker.id);
}

void ClusterState::restore_tasks(Job& job, const std::vector<TaskRecord>& rows, Now now) {
  make_tasks(job);
  if (const Result<void> restored = job.tasks->restore(rows, now.instant); !restored) {
    note("job ", job.status.id, ": ", restored.failure().message);
    if (job.damage.empty()) job.damage = restored.failure().message;
    make_tasks(job);  // half a table is worse than none
  }
  if (has_ended(job.status.state) || job.status.state == JobState::kStopping ||
      !job.damage.empty()) {
    job.tasks->cancel_all();
  }
  count_tasks(job);
  if (has_ended(job.status.state)) return;
  // As few slots as they can have until the worker says which of them share one: the epochs of a
  // batch follow each other.
  const auto batch = static_cast<LeaseEpoch>(job.status.spec.array->batch);
  for (const LeaseHolder& holder : job.tasks->holders()) {
    std::map<LeaseEpoch, Lease> leases;
    for (const Lease& lease : job.tasks->leases_of(holder.incarnation)) leases[lease.epoch] = lease;
    while (!leases.empty()) {
      const LeaseEpoch first = leases.begin()->first;
      TaskBatch shared;  // its worker says which GPUs it has
      while (!leases.empty() && leases.begin()->first < first + batch) {
        shared.leases.push_back(leases.extract(leases.begin()).mapped());
      }
      hold_batch(job, holder, first, shared);
    }
  }
}

}  // namespace longhaul

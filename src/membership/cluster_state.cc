#include "longhaul/membership/cluster_state.h"

#include <algorithm>

namespace longhaul {
namespace {

constexpr int kMaxRanks = 65'536;
constexpr int kMaxBatch = 10'000;
constexpr int kMaxPriority = 1'000'000;
constexpr int kMaxGpusPerRank = 1024;

std::optional<Failure> why_invalid(const ArrayJobSpec& array) {
  if (array.tasks < 1 || array.tasks > kMaxTasks) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("an array has 1 to ", kMaxTasks, " tasks, not ", array.tasks)};
  }
  if (array.batch < 1 || array.batch > kMaxBatch) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("a batch has 1 to ", kMaxBatch, " tasks, not ", array.batch)};
  }
  if (array.max_attempts < 1) {
    return Failure{ErrorKind::kInvalid, "a task needs at least one attempt"};
  }
  return std::nullopt;
}

std::optional<Failure> why_invalid(const JobSpec& spec) {
  if (spec.command.empty() || spec.command.front().empty()) {
    return Failure{ErrorKind::kInvalid, "a job needs a command"};
  }
  if (spec.gpus_per_rank < 0 || spec.gpus_per_rank > kMaxGpusPerRank) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("a rank has 0 to ", kMaxGpusPerRank, " GPUs, not ", spec.gpus_per_rank)};
  }
  if (std::abs(int64_t{spec.priority}) > kMaxPriority) {
    return Failure{ErrorKind::kInvalid, str_cat("a priority lies between ", -kMaxPriority, " and ",
                                                kMaxPriority, ", not ", spec.priority)};
  }
  if (spec.array) return why_invalid(*spec.array);
  if (spec.ranks < 1 || spec.ranks > kMaxRanks) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("a job has 1 to ", kMaxRanks, " ranks, not ", spec.ranks)};
  }
  if (spec.min_nodes > 0 && (spec.max_ranks_per_worker < 1 || spec.min_nodes > spec.max_nodes())) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("an elastic job runs on ", spec.min_nodes, " to ", spec.max_nodes(),
                           " workers with ", spec.max_ranks_per_worker, " ranks each")};
  }
  return std::nullopt;
}

}  // namespace

Result<JobId> ClusterState::submit(const JobSpec& spec, const std::string& submission_key,
                                   Now now) {
  if (!submission_key.empty()) {
    if (const auto known = by_key_.find(submission_key); known != by_key_.end()) {
      return known->second;
    }
  }
  if (const auto invalid = why_invalid(spec)) return *invalid;
  if (const auto taken = why_name_is_taken(spec.name)) return *taken;
  if (const auto too_large = why_it_never_fits(spec, now)) return *too_large;
  const JobId id = str_cat("j", ++last_job_);
  Job& job = jobs_[id];
  job.number = last_job_;
  job.submission_key = submission_key;
  job.status.id = id;
  job.status.spec = spec;
  if (job.status.spec.grace.count() == 0) job.status.spec.grace = options_.grace;
  if (job.status.spec.join_timeout.count() == 0) {
    job.status.spec.join_timeout = options_.failure.join_timeout;
  }
  job.status.unix_ms_submitted = now.unix_ms;
  submitted_.push_back(id);
  active_[job.place()] = id;
  if (!submission_key.empty()) by_key_[submission_key] = id;
  if (spec.array) {
    active_arrays_[job.place()] = id;
    make_tasks(job);
    note("job ", id, " submitted: ", spec.array->tasks, " tasks of ", spec.command.front());
  } else {
    note("job ", id, " submitted: ", spec.ranks, " ranks of ", spec.command.front());
  }
  happened(EventKind::kJobSubmitted, job,
           str_cat(spec.array ? spec.array->tasks : static_cast<TaskIndex>(spec.ranks),
                   spec.array ? " tasks of " : " ranks of ", spec.command.front()));
  changed(job);
  schedule(now);
  if (job.status.state == JobState::kPending && spec.fail_when_full) {
    job.verdict =
        Verdict{FailureClass::kNoRoom, std::nullopt, "",
                "no room, and the job was asked not to wait: " + job.status.reason, false};
    advance(job, JobEvent::kNoRoom, now);
  }
  return id;
}

// A name finds one job that has not ended, or the newest of those that have.
std::optional<Failure> ClusterState::why_name_is_taken(const std::string& name) const {
  if (name.empty()) return std::nullopt;
  for (const auto& [number, id] : active_) {
    if (jobs_.at(id).status.spec.name != name) continue;
    return Failure{ErrorKind::kInvalid,
                   str_cat("job ", id, " is called '", name, "' and has not ended (",
                           to_string(jobs_.at(id).status.state),
                           "): wait for it, stop it, or choose another name")};
  }
  return std::nullopt;
}

Result<JobId> ClusterState::stop(const std::string& job_name, milliseconds grace, bool force,
                                 Now now) {
  Result<JobId> id = find(job_name);
  if (!id) return id;
  Job& job = jobs_.at(*id);
  if (has_ended(job.status.state)) return id;
  job.stop_grace = force ? milliseconds(0) : grace.count() > 0 ? grace : job.status.spec.grace;
  if (job.stop_reason.empty()) job.stop_reason = "stopped by a user";
  advance(job, JobEvent::kStopRequested, now);
  schedule(now);
  return id;
}

void ClusterState::stop_all(const std::string& reason, Now now) {
  for (auto& [id, job] : jobs_) {
    if (has_ended(job.status.state)) continue;
    job.stop_reason = reason;
    job.stop_grace = job.status.spec.grace;
    advance(job, JobEvent::kStopRequested, now);
  }
}

bool ClusterState::has_active_jobs() const {
  return std::any_of(jobs_.begin(), jobs_.end(),
                     [](const auto& entry) { return !has_ended(entry.second.status.state); });
}

Result<JobId> ClusterState::find(const std::string& job_name) const {
  if (submitted_.empty()) {
    return Failure{ErrorKind::kInvalid, str_cat("no job '", job_name, "': there are none yet")};
  }
  if (job_name == "last") return submitted_.back();
  if (jobs_.contains(job_name)) return job_name;
  for (auto id = submitted_.rbegin(); id != submitted_.rend(); ++id) {
    if (!job_name.empty() && jobs_.at(*id).status.spec.name == job_name) return *id;
  }
  std::vector<std::string> prefixed;
  for (const JobId& id : submitted_) {
    if (!job_name.empty() && id.starts_with(job_name)) prefixed.push_back(id);
  }
  if (prefixed.size() == 1) return prefixed.front();
  if (prefixed.size() > 1) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("'", job_name, "' may be any of ", join(prefixed, ", "))};
  }
  return Failure{ErrorKind::kInvalid,
                 str_cat("no job '", job_name, "'; the last one is ", submitted_.back())};
}

const JobStatus* ClusterState::status(const JobId& id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : &found->second.status;
}

std::vector<const JobStatus*> ClusterState::list(bool include_ended) const {
  std::vector<const JobStatus*> listed;
  for (const JobId& id : submitted_) {
    const JobStatus& status = jobs_.at(id).status;
    if (include_ended || !has_ended(status.state)) listed.push_back(&status);
  }
  return listed;
}

std::vector<NodeStatus> ClusterState::nodes() const {
  std::vector<NodeStatus> nodes;
  for (const auto& [id, worker] : workers_.all()) {
    NodeStatus node{worker, used_of(id), {}};
    for (const JobStatus* job : list(false)) {
      const Job& whole = jobs_.at(job->id);
      const bool here =
          std::any_of(job->ranks.begin(), job->ranks.end(),
                      [&](const RankRecord& rank) { return rank.worker == id; }) ||
          std::any_of(whole.batches.begin(), whole.batches.end(),
                      [&](const auto& one) { return one.second.holder.worker == id; });
      if (here) node.jobs.push_back(job->id);
    }
    nodes.push_back(std::move(node));
  }
  return nodes;
}

const JobRecord* ClusterState::record(const JobId& id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : &found->second;
}

void ClusterState::restore(ClusterMemory memory, Now now) {
  last_job_ = memory.last_job;
  epochs_ = LeaseEpochs(memory.boot);
  for (WorkerRecord& worker : memory.workers) workers_.restore(std::move(worker), now);
  for (JobRecord& record : memory.jobs) {
    const JobId id = record.status.id;
    last_job_ = std::max(last_job_, record.number);
    submitted_.push_back(id);
    if (!record.submission_key.empty()) by_key_[record.submission_key] = id;
    Job& job = jobs_[id];
    static_cast<JobRecord&>(job) = std::move(record);
    // The clock of the life before means nothing now; the order of what was seen still does.
    job.status.hang.reset();
    if (job.status.state == JobState::kRunning) job.look_at = now.instant + options_.hang_after;
    for (RankRecord& rank : job.status.ranks) {
      if (rank.joined()) rank.joined_at = now.instant;
      rank.exited_at = rank.fault_at = rank.progress_at = rank.moved_at = now.instant;
      order_ = std::max({order_, rank.exit_order, rank.fault_order});
    }
    for (const auto& [worker, lost] : job.lost_workers) order_ = std::max(order_, lost.lost_order);
    if (job.status.spec.array) restore_tasks(job, memory.tasks[id], now);
    if (const auto shards = memory.shards.find(id); shards != memory.shards.end()) {
      restore_shards(job, shards->second, now);
    }
    if (has_ended(job.status.state)) continue;
    active_[job.place()] = id;
    if (job.tasks) active_arrays_[job.place()] = id;
    if (!job.shares.empty()) take_slots(job);
    start_clock(job, now);
    if (const auto values = memory.stores.find(id); values != memory.stores.end()) {
      job.store.restore(values->second);
    }
    if (job.status.state == JobState::kStarting) {
      job.give_up_at = now.instant + options_.workers.return_grace + options_.prepare_timeout;
    } else if (job.status.state == JobState::kStopping) {
      job.store.fail(job.status.reason);
      job.give_up_at =
          now.instant + options_.workers.return_grace + job.stop_grace + options_.stop_margin;
    }
    note("job ", id, " is taken up again: ", to_string(job.status.state));
  }
}

ClusterState::Job* ClusterState::job_of(const LaunchId& launch) {
  const auto found = jobs_.find(launch.job);
  if (found == jobs_.end() || found->second.status.generation != launch.generation) return nullptr;
  return &found->second;
}

std::vector<TaskRecord> ClusterState::take_task_rows(const JobId& id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || !found->second.tasks) return {};
  return found->second.tasks->take_changes();
}

const TaskTable* ClusterState::tasks(const JobId& id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() || !found->second.tasks ? nullptr : &*found->second.tasks;
}

void ClusterState::forget_old_jobs() {
  size_t ended = list(true).size() - list(false).size();
  for (auto id = submitted_.begin(); id != submitted_.end() && ended > options_.keep_ended_jobs;) {
    const Job& job = jobs_.at(*id);
    if (!has_ended(job.status.state)) {
      ++id;
      continue;
    }
    by_key_.erase(job.submission_key);
    effects_.emplace_back(JobForgottenEffect{*id});
    jobs_.erase(*id);
    id = submitted_.erase(id);
    --ended;
  }
}

void ClusterState::tick(Now now) {
  for (const WorkerId& id : workers_.sweep(now.instant)) {
    const WorkerRecord* worker = workers_.find(id);
    effects_.emplace_back(WorkerChangedEffect{id});
    if (worker == nullptr) continue;
    if (worker->state == WorkerState::kLost) {
      worker_lost(id, worker->why_lost, now);
    } else {
      note("worker ", id, " is unreachable");
      happened(EventKind::kWorkerUnreachable, id, "it is silent");
    }
  }
  for (auto& [id, job] : jobs_) {
    if (!has_ended(job.status.state)) expire(job, now);
  }
  schedule_soon(now);
  forget_old_jobs();
}

void ClusterState::happened(EventKind kind, const Job& job, std::string text) {
  ClusterEvent event{kind, job.status.id, "", job.status.generation, std::nullopt, std::move(text)};
  if (job.status.failure) {
    event.worker = job.status.failure->worker;
    event.rank = job.status.failure->rank;
  }
  effects_.emplace_back(JournalEffect{std::move(event)});
}

void ClusterState::happened(EventKind kind, const WorkerId& worker, std::string text) {
  effects_.emplace_back(JournalEffect{{kind, "", worker, 0, std::nullopt, std::move(text)}});
}

std::optional<Instant> ClusterState::next_wakeup() const {
  std::optional<Instant> next = workers_.next_deadline();
  const auto consider = [&](std::optional<Instant> at) {
    if (at && (!next || *at < *next)) next = at;
  };
  consider(schedule_at_);
  for (const auto& [id, job] : jobs_) {
    if (has_ended(job.status.state)) continue;
    consider(job.decide_at);
    consider(job.give_up_at);
    consider(job.retry_at);
    consider(job.time_is_up);
    consider(job.look_at);
    consider(job.store.next_deadline());
    if (job.tasks) consider(job.tasks->next_wakeup());
    for (const auto& [worker, since] : job.missing_since)
      consider(since + options_.inventory_grace);
  }
  return next;
}

}  // namespace longhaul

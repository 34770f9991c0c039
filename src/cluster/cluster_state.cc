#include "cluster/cluster_state.h"

#include <algorithm>
#include <set>

#include "cluster/jobs/user_text.h"

#include "base/capped.h"

namespace longhaul {
namespace {

constexpr int kMaxRanks = 65'536;
constexpr int kMaxBatch = 10'000;
constexpr int kMaxPriority = 1'000'000;
constexpr int kMaxGpusPerRank = 1024;
constexpr size_t kNamedJobs = 20;

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

// It travels in every message about the job, and execve() takes no more than that.
constexpr size_t kMaxSpecBytes = size_t{2} << 20;

std::optional<Failure> why_too_large(const JobSpec& spec) {
  size_t bytes = spec.name.size() + spec.working_directory.size();
  for (const std::string& word : spec.command) bytes += word.size() + 1;
  for (const auto& [name, value] : spec.env) bytes += name.size() + value.size() + 2;
  if (spec.array) bytes += spec.array->indices.size();
  if (bytes <= kMaxSpecBytes) return std::nullopt;
  return Failure{
      ErrorKind::kInvalid,
      str_cat("the command, its environment and folder have ", format_bytes(bytes), ", and ",
              format_bytes(kMaxSpecBytes), " is the most: put what is long into a file")};
}

std::optional<Failure> why_invalid(const JobSpec& spec) {
  if (const auto too_large = why_too_large(spec)) return too_large;
  if (spec.command.empty() || spec.command.front().empty()) {
    return Failure{ErrorKind::kInvalid, "a job needs a command"};
  }
  if (auto unusable = why_unusable_text(spec)) return unusable;
  if (spec.gpus_per_rank < 0 || spec.gpus_per_rank > kMaxGpusPerRank) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("a rank has 0 to ", kMaxGpusPerRank, " GPUs, not ", spec.gpus_per_rank)};
  }
  if (std::abs(int64_t{spec.priority}) > kMaxPriority) {
    return Failure{ErrorKind::kInvalid, str_cat("a priority lies between ", -kMaxPriority, " and ",
                                                kMaxPriority, ", not ", spec.priority)};
  }
  if (spec.input && (spec.array || spec.may_restart())) {
    return Failure{ErrorKind::kInvalid,
                   spec.array ? "the tasks of an array have no stdin that could be sent to them"
                              : "what rank 0 has read on stdin cannot be sent again: a job with it "
                                "has no restarts"};
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
  if (submission_key.size() > kMaxNameBytes) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("a submission key has at most ", kMaxNameBytes, " bytes")};
  }
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
  job.status.life = job.life_now = life_;
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
                                 Now now, const StopOrigin& by) {
  Result<JobId> id = find(job_name);
  if (!id) return id;
  Job& job = jobs_.at(*id);
  if (has_ended(job.status.state)) return id;
  job.stop_grace = force ? milliseconds(0) : grace.count() > 0 ? grace : job.status.spec.grace;
  if (job.stop_reason.empty()) {
    job.stop_reason = "stopped by " + by.text();
    job.status.stopped_by = by;
    job.status.stopped_by->unix_ms = now.unix_ms;
  } else {
    happened(EventKind::kJobStopping, job,
             str_cat(force ? "to be killed at once, says " : "asked again by ", by.text()));
  }
  advance(job, JobEvent::kStopRequested, now);
  schedule(now);
  return id;
}

void ClusterState::withdraw(const JobId& id, const std::string& reason, Now now) {
  const auto job = jobs_.find(id);
  if (job == jobs_.end()) return;
  by_key_.erase(job->second.submission_key);
  if (has_ended(job->second.status.state)) return;
  // Nobody has been told of it: no lease of it is anywhere.
  while (!job->second.batch_of.empty()) {
    close_lease(job->second, job->second.batch_of.begin()->first);
  }
  job->second.stop_reason = reason;
  job->second.stop_grace = milliseconds(0);
  advance(job->second, JobEvent::kStopRequested, now);
}

void ClusterState::postpone(milliseconds gap) {
  for (auto& [id, job] : jobs_) {
    if (has_ended(job.status.state)) continue;
    if (job.give_up_at) *job.give_up_at += gap;
    for (auto& [worker, since] : job.missing_since) since += gap;
  }
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
  return !active_.empty();
}

bool ClusterState::counts_time() const {
  return std::ranges::any_of(
      active_, [this](const auto& one) { return jobs_.at(one.second).started_at.has_value(); });
}

Result<JobId> ClusterState::find(const std::string& job_name) const {
  if (submitted_.empty()) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("no job '", capped(job_name, limits::kWord), "': there are none yet")};
  }
  if (job_name == "last") return submitted_.back();
  if (jobs_.contains(job_name)) return job_name;
  for (auto id = submitted_.rbegin(); id != submitted_.rend(); ++id) {
    if (!job_name.empty() && jobs_.at(*id).status.spec.name == job_name) return *id;
  }
  const std::string shown = capped(job_name, limits::kWord);
  std::vector<std::string> prefixed;
  for (const JobId& id : submitted_) {
    if (!job_name.empty() && id.starts_with(job_name)) prefixed.push_back(id);
  }
  if (prefixed.size() == 1) return prefixed.front();
  if (prefixed.size() > kNamedJobs) {
    prefixed.resize(kNamedJobs);
    prefixed.emplace_back("...");
  }
  if (prefixed.size() > 1) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("'", shown, "' may be any of ", join(prefixed, ", "))};
  }
  return Failure{ErrorKind::kInvalid,
                 str_cat("no job '", shown, "'; the last one is ", submitted_.back())};
}

Result<JobId> ClusterState::find(const std::string& job_name, uint64_t life) const {
  Result<JobId> id = find(job_name);
  if (!id || life == 0 || jobs_.at(*id).status.life == life) return id;
  return Failure{ErrorKind::kStale,
                 str_cat("job ", *id,
                         " is another one than was meant: the master's state was wiped "
                         "or put back from a backup since, and gave its number again")};
}

const JobStatus* ClusterState::status(const JobId& id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : &found->second.status;
}

std::vector<const JobStatus*> ClusterState::list(bool include_ended, const JobId& after) const {
  // "j9" comes before "j10".
  const auto earlier = [](const JobId& a, const JobId& b) {
    return std::pair(a.size(), a) < std::pair(b.size(), b);
  };
  std::vector<const JobStatus*> listed;
  auto id = std::upper_bound(submitted_.begin(), submitted_.end(), after, earlier);
  for (; id != submitted_.end(); ++id) {
    const JobStatus& status = jobs_.at(*id).status;
    if (include_ended || !has_ended(status.state)) listed.push_back(&status);
  }
  return listed;
}

std::vector<NodeStatus> ClusterState::nodes() const {
  std::unordered_map<WorkerId, std::vector<JobId>> jobs_on;
  for (const JobStatus* job : list(false)) {
    std::unordered_set<WorkerId> on;
    for (const RankRecord& rank : job->ranks) on.insert(rank.worker);
    for (const auto& [id, batch] : jobs_.at(job->id).batches) on.insert(batch.holder.worker);
    for (const WorkerId& worker : on) jobs_on[worker].push_back(job->id);
  }
  std::vector<NodeStatus> nodes;
  nodes.reserve(workers_.all().size());
  for (const auto& [id, worker] : workers_.all()) {
    nodes.push_back({worker, used_of(id), std::move(jobs_on[id])});
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
  life_ = memory.life;
  for (WorkerRecord& worker : memory.workers) workers_.restore(std::move(worker), now);
  for (JobRecord& record : memory.jobs) restore_job(std::move(record), memory, now);
  if (!memory.new_life.empty()) end_earlier_life(memory.new_life, now);
}

void ClusterState::restore_job(JobRecord record, ClusterMemory& memory, Now now) {
  const JobId id = record.status.id;
  last_job_ = std::max(last_job_, record.number);
  submitted_.push_back(id);
  if (!record.submission_key.empty()) by_key_[record.submission_key] = id;
  Job& job = jobs_[id];
  static_cast<JobRecord&>(job) = std::move(record);
  job.life_now = life_;
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
  if (has_ended(job.status.state)) return;
  active_[job.place()] = id;
  if (job.tasks) active_arrays_[job.place()] = id;
  if (!job.shares.empty()) take_slots(job);
  if (job.status.unix_ms_started != 0) start_clock(job, now);
  // Once more from now: a restart of the master prolongs a wait and never skips it.
  if (job.status.state == JobState::kPending && job.status.all_restarts() > 0) {
    job.retry_at = now.instant + restart_delay(job);
  }
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
  if (!job.damage.empty()) set_aside(job, now);
}

// Some of what it stands on cannot be read: going on would be guessing.
void ClusterState::set_aside(Job& job, Now now) {
  const std::string why = str_cat("its rows in the master's database cannot be read: ", job.damage);
  note("job ", job.status.id, ": ", why);
  if (job.status.state == JobState::kStopping) return;
  fail(job, {FailureClass::kStateDamaged, std::nullopt, "", why, false}, now);
}

// What ran is nobody's: its workers may have done since what this state knows nothing of. They are
// lost to it, and whoever may be tried again is tried again.
void ClusterState::end_earlier_life(const std::string& why, Now now) {
  note("a new life of this state begins: ", why);
  std::set<WorkerId> holders;
  for (const auto& [id, worker] : workers_.all()) holders.insert(id);
  for (const auto& [id, job] : jobs_) {
    for (const RankRecord& rank : job.status.ranks) holders.insert(rank.worker);
    for (const auto& [epoch, batch] : job.batches) holders.insert(batch.holder.worker);
  }
  const std::string lost = str_cat("the master's state has begun a new life (", why, ")");
  for (const WorkerId& id : workers_.lose_all(lost, now))
    row_changed(kWorkerRows, id);
  for (const WorkerId& id : holders) worker_lost(id, lost, now);
}

ClusterState::Job* ClusterState::job_of(const LaunchId& launch) {
  const auto found = jobs_.find(launch.job);
  if (found == jobs_.end() || found->second.launch() != launch) return nullptr;
  return &found->second;
}

std::vector<TaskRecord> ClusterState::take_task_rows(const JobId& id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || !found->second.tasks) return {};
  return found->second.tasks->take_changes();
}

ClusterState::WhereRank ClusterState::where(const JobId& id, Rank rank) const {
  const Job& job = jobs_.at(id);
  WhereRank where{job.launch(), std::nullopt, has_ended(job.status.state)};
  const auto index = static_cast<size_t>(rank);
  if (where.over || index >= job.status.ranks.size()) return where;  // or it has no ranks yet
  const RankRecord& record = job.status.ranks[index];
  where.over = record.state == RankState::kExited || record.state == RankState::kLost;
  const WorkerRecord* worker = workers_.find(record.worker);
  if (worker != nullptr && record.state != RankState::kAssigned) where.session = worker->session;
  return where;
}

const TaskTable* ClusterState::tasks(const LaunchId& launch) const {
  return launch.life == life_ ? tasks(launch.job) : nullptr;
}

const TaskTable* ClusterState::tasks(const JobId& id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() || !found->second.tasks ? nullptr : &*found->second.tasks;
}

void ClusterState::forget_old_jobs() {
  size_t ended = submitted_.size() - active_.size();
  for (auto id = submitted_.begin(); id != submitted_.end() && ended > options_.keep_ended_jobs;) {
    const Job& job = jobs_.at(*id);
    if (!has_ended(job.status.state)) {
      ++id;
      continue;
    }
    by_key_.erase(job.submission_key);
    effects_.emplace_back(JobForgottenEffect{*id});
    row_changed(kJobRows, *id);
    jobs_.erase(*id);
    id = submitted_.erase(id);
    --ended;
  }
}

void ClusterState::tick(Now now) {
  for (const WorkerId& id : workers_.sweep(now.instant)) {
    const WorkerRecord* worker = workers_.find(id);
    row_changed(kWorkerRows, id);
    if (worker == nullptr) {
      note("worker ", id, " is forgotten: it was lost long ago");
      happened(EventKind::kWorkerForgotten, id, "it was lost long ago");
      continue;
    }
    if (worker->state == WorkerState::kLost) {
      worker_lost(id, worker->why_lost, now);
    } else {
      note("worker ", id, " is unreachable");
      happened(EventKind::kWorkerUnreachable, id, "it is silent");
    }
  }
  std::vector<JobId> active;  // some of them end meanwhile
  active.reserve(active_.size());
  for (const auto& [place, id] : active_) active.push_back(id);
  for (const JobId& id : active) {
    if (Job& job = jobs_.at(id); !has_ended(job.status.state)) expire(job, now);
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
  event.text = capped(std::move(event.text), limits::kSentence);
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
  for (const auto& [place, id] : active_) {
    const Job& job = jobs_.at(id);
    consider(job.review_at ? job.review_at : job.decide_at);
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

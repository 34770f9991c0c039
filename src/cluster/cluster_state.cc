#include "cluster/cluster_state.h"

#include <algorithm>
#include <ranges>
#include <set>
#include <unordered_map>

#include "base/capped.h"
#include "cluster/arrays/task_array.h"
#include "cluster/jobs/user_text.h"

namespace longhaul {
namespace {

constexpr int kMaxPriority = 1'000'000;
constexpr int kMaxGpusPerRank = 1024;
// In the message about a prefix that fits several jobs.
constexpr size_t kNamedJobs = 20;

// The spec travels in every message about the job, and with the usual stack limit of 8 MiB execve()
// takes no more than this.
constexpr size_t kMaxSpecBytes = size_t{2} << 20;

std::optional<Failure> why_too_large(const JobSpec& spec) {
  // Counted as execve() does: each string with its zero byte, a variable with its '=' too.
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

// Of any kind of work.
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
  // As 64 bits, in which the lowest int has an absolute value.
  if (std::abs(int64_t{spec.priority}) > kMaxPriority) {
    return Failure{ErrorKind::kInvalid, str_cat("a priority lies between ", -kMaxPriority, " and ",
                                                kMaxPriority, ", not ", spec.priority)};
  }
  return std::nullopt;
}

}  // namespace

Work* ClusterState::find_work(const JobId& id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : found->second.get();
}

Work* ClusterState::work_of(const LaunchId& launch) const {
  Work* work = find_work(launch.job);
  return work == nullptr || work->launch() != launch ? nullptr : work;
}

const WorkKind& ClusterState::kind_of(const JobSpec& spec) const {
  // There is always one: the last kind takes whatever is left.
  return *std::ranges::find_if(kinds_, [&](const WorkKind& kind) { return kind.is_of(spec); });
}

// Files a job under its id and its submission key. One that has not ended is in the queue from here
// on, and takes itself out when it ends: whoever iterates over active_ while jobs may end must copy
// it first.
Work& ClusterState::add(JobRecord record) {
  const JobId id = record.status.id;
  submitted_.push_back(id);
  if (!record.submission_key.empty()) by_key_[record.submission_key] = id;
  const WorkKind& kind = kind_of(record.status.spec);
  Work& work = *(jobs_[id] = kind.make(site_, std::move(record)));
  if (work.ended()) return work;
  active_[work.place()] = &work;
  if (work.takes_single_slots()) fillers_[work.place()] = &work;
  work.on_end([this, place = work.place()] {
    active_.erase(place);
    fillers_.erase(place);
  });
  return work;
}

Result<JobId> ClusterState::submit(const JobSpec& spec, const std::string& submission_key,
                                   Now now) {
  if (submission_key.size() > kMaxNameBytes) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("a submission key has at most ", kMaxNameBytes, " bytes")};
  }
  // Before all checks: a repeated submission would find its own name taken.
  if (!submission_key.empty()) {
    if (const auto known = by_key_.find(submission_key); known != by_key_.end()) {
      return known->second;
    }
  }
  if (const auto invalid = why_invalid(spec)) return *invalid;
  if (const auto invalid = kind_of(spec).why_invalid(spec)) return *invalid;
  if (const auto taken = why_name_is_taken(spec.name)) return *taken;
  if (const auto too_large = why_it_never_fits(spec, now)) return *too_large;
  JobRecord record;
  record.number = ++last_job_;
  record.submission_key = submission_key;
  record.status.id = str_cat("j", record.number);
  record.status.life = site_.life;
  record.status.spec = spec;
  // Defaults are filled in now, so that they stay what they were if the master is restarted with
  // others.
  JobSpec& kept = record.status.spec;
  if (kept.grace.count() == 0) kept.grace = site_.options.grace;
  if (kept.join_timeout.count() == 0) kept.join_timeout = site_.options.failure.join_timeout;
  record.status.unix_ms_submitted = now.unix_ms;
  Work& work = add(std::move(record));
  work.begin();
  schedule(now);
  // The plan has just been made, so what still waits found no room.
  if (work.state() == JobState::kPending && spec.fail_when_full) work.give_up_waiting(now);
  return work.id();
}

// A name belongs to at most one job that has not ended, so that it means one job (find()).
std::optional<Failure> ClusterState::why_name_is_taken(const std::string& name) const {
  if (name.empty()) return std::nullopt;
  for (const auto& [place, work] : active_) {
    if (work->spec().name != name) continue;
    return Failure{ErrorKind::kInvalid, str_cat("job ", work->id(), " is called '", name,
                                                "' and has not ended (", to_string(work->state()),
                                                "): wait for it, stop it, or choose another name")};
  }
  return std::nullopt;
}

Result<JobId> ClusterState::stop(const std::string& job_name, milliseconds grace, bool force,
                                 Now now, const StopOrigin& by) {
  Result<JobId> id = find(job_name);
  if (!id) return id;
  Work& work = *jobs_.at(*id);
  if (work.ended()) return id;
  work.stop(by, grace, force, now);
  schedule(now);
  return id;
}

void ClusterState::withdraw(const JobId& id, const std::string& reason, Now now) {
  Work* work = find_work(id);
  if (work == nullptr) return;
  // The client is told that the job was refused, and may submit it again under the same key.
  free_key_of(*work);
  work->withdraw(reason, now);
}

// By now it may be another job's, if this one was withdrawn.
void ClusterState::free_key_of(const Work& work) {
  const auto known = by_key_.find(work.record().submission_key);
  if (known != by_key_.end() && known->second == work.id()) by_key_.erase(known);
}

bool ClusterState::knows_submission(const std::string& key) const {
  return !key.empty() && by_key_.contains(key);
}

void ClusterState::postpone(milliseconds gap) {
  for (auto& [id, work] : jobs_) {
    if (!work->ended()) work->postpone(gap);
  }
}

void ClusterState::stop_all(const std::string& reason, Now now) {
  for (auto& [id, work] : jobs_) {
    if (!work->ended()) work->stop(reason, work->spec().grace, now);
  }
}

bool ClusterState::has_active_jobs() const {
  return !active_.empty();
}

bool ClusterState::counts_time() const {
  return std::ranges::any_of(
      active_, [](const auto& one) { return one.second->record().started_at.has_value(); });
}

Result<JobId> ClusterState::find(const std::string& job_name) const {
  if (submitted_.empty()) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("no job '", capped(job_name, limits::kWord), "': there are none yet")};
  }
  if (job_name == "last") return submitted_.back();
  // Nothing can be called like an id, or "last": why_no_job_name() refuses such names.
  if (jobs_.contains(job_name)) return job_name;
  for (auto id = submitted_.rbegin(); id != submitted_.rend(); ++id) {
    if (!job_name.empty() && jobs_.at(*id)->spec().name == job_name) return *id;
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
  if (!id || life == 0 || jobs_.at(*id)->status().life == life) return id;
  return Failure{ErrorKind::kStale,
                 str_cat("job ", *id,
                         " is another one than was meant: the master's state was wiped "
                         "or put back from a backup since, and gave its number again")};
}

const JobStatus* ClusterState::status(const JobId& id) const {
  const Work* work = find_work(id);
  return work == nullptr ? nullptr : &work->status();
}

std::vector<const JobStatus*> ClusterState::list(bool include_ended, const JobId& after) const {
  // By number: "j9" comes before "j10".
  const auto earlier = [](const JobId& a, const JobId& b) {
    return std::pair(a.size(), a) < std::pair(b.size(), b);
  };
  std::vector<const JobStatus*> listed;
  // submitted_ is in this order, so `after` finds its place even when that job is forgotten.
  auto id = std::upper_bound(submitted_.begin(), submitted_.end(), after, earlier);
  for (; id != submitted_.end(); ++id) {
    const JobStatus& status = jobs_.at(*id)->status();
    if (include_ended || !has_ended(status.state)) listed.push_back(&status);
  }
  return listed;
}

std::vector<NodeStatus> ClusterState::nodes() const {
  std::unordered_map<WorkerId, std::vector<JobId>> jobs_on;
  for (const JobStatus* job : list(false)) {
    for (const WorkerId& worker : jobs_.at(job->id)->holders()) jobs_on[worker].push_back(job->id);
  }
  std::vector<NodeStatus> nodes;
  nodes.reserve(site_.workers.all().size());
  for (const auto& [id, worker] : site_.workers.all()) {
    nodes.push_back({worker, used_of(id), std::move(jobs_on[id])});
  }
  return nodes;
}

const JobRecord* ClusterState::record(const JobId& id) const {
  const Work* work = find_work(id);
  return work == nullptr ? nullptr : &work->record();
}

Explanation ClusterState::explain(const JobId& id, Now now) const {
  const Work& work = *jobs_.at(id);
  ExplainFacts facts;
  work.explain(&facts, now);
  for (const auto& [worker_id, worker] : site_.workers.all()) {
    if (worker.state == WorkerState::kLost) continue;
    facts.nodes.push_back({worker_id, worker.state == WorkerState::kReady && worker.session,
                           worker.drained, worker.registration.room(), free_of(worker)});
  }
  for (const auto& [place, other] : active_) {
    const int held = other->slots_held();
    const bool earlier = other->state() == JobState::kPending && place < work.place();
    if (other == &work || (held == 0 && !earlier)) continue;
    facts.ahead.push_back({other->id(), other->spec().name, other->state(), held});
  }
  return longhaul::explain(facts);
}

// --- What one kind knows

namespace {

template <typename Kind>
Kind* as(Work* work) {
  return dynamic_cast<Kind*>(work);
}

}  // namespace

std::vector<TaskRecord> ClusterState::take_task_rows(const JobId& id) {
  auto* array = as<TaskArray>(find_work(id));
  return array == nullptr ? std::vector<TaskRecord>() : array->take_task_rows();
}

ShardRows ClusterState::take_shard_rows(const JobId& id) {
  auto* gang = as<Gang>(find_work(id));
  return gang == nullptr ? ShardRows() : gang->take_shard_rows();
}

StoreRows ClusterState::take_store_rows(const JobId& id) {
  auto* gang = as<Gang>(find_work(id));
  return gang == nullptr ? StoreRows() : gang->take_store_rows();
}

const ShardBook* ClusterState::shards(const JobId& id) const {
  const auto* gang = as<Gang>(find_work(id));
  return gang == nullptr ? nullptr : &gang->shards();
}

const TaskTable* ClusterState::tasks(const LaunchId& launch) const {
  return launch.life == site_.life ? tasks(launch.job) : nullptr;
}

const TaskTable* ClusterState::tasks(const JobId& id) const {
  const auto* array = as<TaskArray>(find_work(id));
  return array == nullptr ? nullptr : &array->tasks();
}

uint64_t ClusterState::called(const JobId& id, TaskIndex task) const {
  return as<TaskArray>(find_work(id))->called(task);
}

Result<TaskIndex> ClusterState::task_called(const JobId& id, uint64_t called) const {
  const auto* array = as<TaskArray>(find_work(id));
  if (array != nullptr) return array->task_called(called);
  return Failure{ErrorKind::kInvalid, str_cat("job ", id, " is no array: it has ranks")};
}

ClusterState::WhereRank ClusterState::where(const JobId& id, Rank rank) const {
  const Work& work = *jobs_.at(id);
  const auto* gang = as<Gang>(find_work(id));
  return gang == nullptr ? WhereRank{work.launch(), std::nullopt, work.ended()} : gang->where(rank);
}

bool ClusterState::rank_output(SessionId session, const LaunchId& launch, Rank rank, Now now) {
  heard(session, now);
  const WorkerRecord* worker = site_.workers.by_session(session);
  const auto* gang = as<Gang>(find_work(launch.job));
  if (worker == nullptr || gang == nullptr || launch.life != site_.life) return false;
  if (rank < 0 || rank >= gang->spec().ranks) return false;
  // Of an older generation only its own worker has output (may_have_run()), so there is no need to
  // look who it was.
  const Generation running = gang->status().generation;
  if (launch.generation != running) return launch.generation < running;
  return gang->is_of(rank, worker->id);
}

// --- Another life

void ClusterState::restore(ClusterMemory memory, Now now) {
  last_job_ = memory.last_job;
  site_.epochs = LeaseEpochs(memory.boot);
  site_.life = memory.life;
  // Workers first: jobs look for theirs when they are taken up.
  for (WorkerRecord& worker : memory.workers) site_.workers.restore(std::move(worker), now);
  for (JobRecord& record : memory.jobs) {
    last_job_ = std::max(last_job_, record.number);
    add(std::move(record)).take_up(memory, now);
  }
  if (!memory.new_life.empty()) end_earlier_life(memory.new_life, now);
}

// What ran is nobody's: its workers may have done since what this state knows nothing of. They are
// lost to it, and whoever may be tried again is tried again.
void ClusterState::end_earlier_life(const std::string& why, Now now) {
  site_.note("a new life of this state begins: ", why);
  std::set<WorkerId> holders;
  for (const auto& [id, worker] : site_.workers.all()) holders.insert(id);
  for (const auto& [id, work] : jobs_) holders.merge(work->holders());
  const std::string lost = str_cat("the master's state has begun a new life (", why, ")");
  // All workers are LOST in the table before any job hears of one: TaskArray::worker_lost() spares
  // the leases of an incarnation that is still there.
  for (const WorkerId& id : site_.workers.lose_all(lost, now)) site_.row_changed(kWorkerRows, id);
  for (const WorkerId& id : holders) worker_lost(id, lost, now);
}

void ClusterState::forget_old_jobs() {
  size_t ended = submitted_.size() - active_.size();
  // In order of submission, so the oldest go first. What belongs to a job elsewhere (rows, output,
  // results, inputs) goes with the two effects.
  for (auto id = submitted_.begin();
       id != submitted_.end() && ended > site_.options.keep_ended_jobs;) {
    const Work& work = *jobs_.at(*id);
    if (!work.ended()) {
      ++id;
      continue;
    }
    free_key_of(work);
    site_.effects.emplace_back(JobForgottenEffect{*id});
    site_.row_changed(kJobRows, *id);
    jobs_.erase(*id);
    id = submitted_.erase(id);
    --ended;
  }
}

// --- Time

void ClusterState::tick(Now now) {
  // Workers before jobs. The verdict on a gang may be waiting for the lease of a silent worker
  // (failure.cc); when that lease has run out, the gang must find the worker LOST, else it would
  // decide without that.
  for (const WorkerId& id : site_.workers.sweep(now.instant)) {
    const WorkerRecord* worker = site_.workers.find(id);
    site_.row_changed(kWorkerRows, id);
    if (worker == nullptr) {
      site_.note("worker ", id, " is forgotten: it was lost long ago");
      site_.happened(EventKind::kWorkerForgotten, id, "it was lost long ago");
      continue;
    }
    if (worker->state == WorkerState::kLost) {
      worker_lost(id, worker->why_lost, now);
    } else {
      site_.note("worker ", id, " is unreachable");
      site_.happened(EventKind::kWorkerUnreachable, id, "it is silent");
    }
  }
  std::vector<Work*> active;  // a copy: one that ends takes itself out of active_
  active.reserve(active_.size());
  for (const auto& [place, work] : active_) active.push_back(work);
  for (Work* work : active) {
    if (!work->ended()) work->expire(now);
  }
  schedule_soon(now);
  forget_old_jobs();
}

std::optional<Instant> ClusterState::next_wakeup() const {
  std::optional<Instant> next = site_.workers.next_deadline();
  const auto consider = [&](std::optional<Instant> at) {
    if (at && (!next || *at < *next)) next = at;
  };
  consider(site_.plan_at);
  for (const auto& [place, work] : active_) consider(work->next_wakeup());
  return next;
}

}  // namespace longhaul

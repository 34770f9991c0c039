#include "control/master/core/record_proto.h"

#include <algorithm>
#include <utility>

#include "control/convert/job_proto.h"
#include "control/convert/worker_proto.h"
#include "control/master/core/clock_mark.h"
#include "longhaul/base/strings.h"
#include "longhaul/v1/ledger.pb.h"

namespace longhaul {
namespace {

JobId id_of(uint64_t number) {
  return str_cat("j", number);
}

v1::RankRecord record_of(const RankRecord& rank) {
  v1::RankRecord proto;
  *proto.mutable_status() = to_proto(rank);
  proto.mutable_status()->clear_progress();  // the next report says it better
  proto.set_joined(rank.joined());
  proto.set_left(rank.left);
  if (rank.exit) *proto.mutable_exit() = to_proto(*rank.exit);
  proto.set_exit_order(rank.exit_order);
  proto.set_fault_order(rank.fault_order);
  return proto;
}

RankRecord rank_of(const v1::RankRecord& proto) {
  RankRecord rank = from_proto(proto.status());
  if (proto.joined()) rank.joined_at.emplace();  // when: restore() says "now"
  rank.left = proto.left();
  rank.exit.reset();
  if (proto.has_exit()) rank.exit = from_proto(proto.exit());
  rank.exit_order = proto.exit_order();
  rank.fault_order = proto.fault_order();
  return rank;
}

v1::Verdict verdict_proto(const Verdict& verdict) {
  v1::Verdict proto;
  proto.set_failure_class(to_proto(verdict.failure_class));
  if (verdict.rank) proto.set_rank(static_cast<uint32_t>(*verdict.rank));
  proto.set_worker_id(verdict.worker);
  proto.set_message(verdict.message);
  proto.set_tentative(verdict.tentative);
  proto.set_exit_code(verdict.exit_code);
  return proto;
}

Verdict verdict_of(const v1::Verdict& proto) {
  Verdict verdict{from_proto(proto.failure_class()),
                  std::nullopt,
                  proto.worker_id(),
                  proto.message(),
                  proto.tentative(),
                  proto.exit_code()};
  if (proto.has_rank()) verdict.rank = static_cast<Rank>(proto.rank());
  return verdict;
}

}  // namespace

std::string to_bytes(const JobRecord& job) {
  v1::JobRecord proto;
  proto.set_number(job.number);
  *proto.mutable_status() = to_proto(job.status);
  proto.mutable_status()->clear_ranks();
  for (const RankRecord& rank : job.status.ranks) *proto.add_ranks() = record_of(rank);
  proto.set_submission_key(job.submission_key);
  for (const RankShare& share : job.shares) {
    v1::RankShare* one = proto.add_shares();
    one->set_worker_id(share.worker);
    one->mutable_ranks()->Assign(share.ranks.begin(), share.ranks.end());
    one->mutable_gpus()->Assign(share.gpus.begin(), share.gpus.end());
  }
  proto.set_launched(job.launched);
  proto.set_master_addr(job.master_addr);
  proto.set_master_port(static_cast<uint32_t>(job.master_port));
  for (const auto& [id, lost] : job.lost_workers) {
    v1::LostWorker* one = proto.add_lost_workers();
    one->set_worker_id(id);
    one->set_host(lost.host);
    one->set_why(lost.why);
    one->set_order(lost.lost_order);
    one->set_preempted(lost.preempted);
  }
  if (job.verdict) *proto.mutable_verdict() = verdict_proto(*job.verdict);
  proto.set_stop_reason(job.stop_reason);
  proto.set_stop_grace_ms(static_cast<uint64_t>(job.stop_grace.count()));
  proto.set_killed(job.killed);
  proto.mutable_node_order()->Assign(job.node_order.begin(), job.node_order.end());
  proto.set_best_step(job.best_step);
  proto.set_attempts_without_progress(static_cast<uint32_t>(job.attempts_without_progress));
  if (job.started_at) proto.set_started_ms(static_cast<uint64_t>(to_ms(*job.started_at)));
  return proto.SerializeAsString();
}

Result<JobRecord> job_record_from(const std::string& bytes, milliseconds shift) {
  v1::JobRecord proto;
  if (!proto.ParseFromString(bytes)) return Failure{ErrorKind::kCorrupt, "its bytes are damaged"};
  // What is not known would be taken for the first of its kind: a job that has ended would wait.
  const bool known = v1::JobState_IsValid(proto.status().state()) &&
                     proto.status().state() != v1::JOB_STATE_UNSPECIFIED;
  if (!known) return Failure{ErrorKind::kCorrupt, "its state is not one that this master knows"};
  JobRecord job;
  job.number = proto.number();
  job.status = from_proto(proto.status());
  for (const v1::RankRecord& rank : proto.ranks()) job.status.ranks.push_back(rank_of(rank));
  job.submission_key = proto.submission_key();
  for (const v1::RankShare& share : proto.shares()) {
    job.shares.push_back({share.worker_id(),
                          {share.ranks().begin(), share.ranks().end()},
                          {share.gpus().begin(), share.gpus().end()}});
  }
  job.launched = proto.launched();
  job.master_addr = proto.master_addr();
  job.master_port = static_cast<int>(proto.master_port());
  for (const v1::LostWorker& lost : proto.lost_workers()) {
    job.lost_workers[lost.worker_id()] = {lost.worker_id(), lost.host(),  true,
                                          lost.why(),       lost.order(), std::nullopt,
                                          lost.preempted()};
  }
  if (proto.has_verdict()) job.verdict = verdict_of(proto.verdict());
  job.stop_reason = proto.stop_reason();
  job.stop_grace = milliseconds(proto.stop_grace_ms());
  job.killed = proto.killed();
  job.node_order = {proto.node_order().begin(), proto.node_order().end()};
  job.best_step = proto.best_step();
  job.attempts_without_progress = static_cast<int>(proto.attempts_without_progress());
  if (proto.started_ms() != 0) {
    job.started_at = from_ms(static_cast<int64_t>(proto.started_ms())) + shift;
  }
  return job;
}

std::string to_bytes(const WorkerRecord& worker) {
  v1::WorkerRecord proto;
  proto.set_worker_id(worker.id);
  *proto.mutable_registration() = to_proto(worker.registration);
  proto.mutable_registration()->clear_inventory();
  proto.set_lost(worker.state == WorkerState::kLost);
  proto.set_why_lost(worker.why_lost);
  proto.set_unix_ms_last_heard(worker.unix_ms_last_heard);
  proto.set_drained(worker.drained);
  if (worker.state == WorkerState::kLost) {
    proto.set_lost_ms(static_cast<uint64_t>(to_ms(worker.lost_at)));
  }
  return proto.SerializeAsString();
}

Result<WorkerRecord> worker_record_from(const std::string& bytes, milliseconds shift) {
  v1::WorkerRecord proto;
  if (!proto.ParseFromString(bytes)) {
    return Failure{ErrorKind::kCorrupt, "its bytes are damaged"};
  }
  WorkerRecord worker;
  worker.id = proto.worker_id();
  worker.registration = from_proto(proto.registration());
  worker.state = proto.lost() ? WorkerState::kLost : WorkerState::kUnreachable;
  worker.why_lost = proto.why_lost();
  worker.unix_ms_last_heard = proto.unix_ms_last_heard();
  worker.drained = proto.drained();
  if (proto.lost_ms() != 0) worker.lost_at = from_ms(static_cast<int64_t>(proto.lost_ms())) + shift;
  return worker;
}

std::vector<v1::Event> events_of(const LedgerContents& contents) {
  std::vector<v1::Event> events;
  for (const auto& [number, bytes] : contents.events) {
    v1::Event event;
    if (event.ParseFromString(bytes) && event.number() == number) {
      events.push_back(std::move(event));
    }
  }
  return events;
}

namespace {

// In the place of a job whose own row cannot be read, so that everybody sees what became of it.
JobRecord lost_record(uint64_t number, const std::string& why) {
  JobRecord job;
  job.number = number;
  job.damage = why;
  job.status.id = id_of(number);
  job.status.state = JobState::kFailed;
  job.status.exit_code = 1;
  job.status.reason = str_cat("its row in the master's database cannot be read: ", why);
  job.status.failure.emplace();
  job.status.failure->failure_class = FailureClass::kStateDamaged;
  job.status.failure->message = job.status.reason;
  return job;
}

JobRecord job_of(uint64_t number, const std::string& bytes, milliseconds shift,
                 const LedgerContents& contents) {
  Result<JobRecord> job = job_record_from(bytes, shift);
  if (job && (job->number != number || job->status.id != id_of(number))) {
    job = Failure{ErrorKind::kCorrupt, "it is not the row of this job"};
  }
  if (!job) return lost_record(number, job.failure().message);
  const auto damaged = contents.damaged.find(number);
  if (damaged != contents.damaged.end()) job->damage = damaged->second;
  return std::move(*job);
}

// The datasets of one job. Returns "" or which of them cannot be read.
std::string remember_shards(const std::map<std::string, DatasetRow>& datasets,
                            std::map<std::string, ShardMemory>* shards) {
  for (const auto& [name, rows] : datasets) {
    v1::ShardPlan plan;
    if (rows.plan.empty() || !plan.ParseFromString(rows.plan))
      return str_cat("dataset '", name, "'");
    (*shards)[name] = {from_proto(plan), rows.shards};
  }
  return "";
}

template <typename Rows>
bool any_unknown(const Rows& rows, const std::map<uint64_t, std::string>& jobs) {
  return std::any_of(rows.begin(), rows.end(),
                     [&](const auto& row) { return !jobs.contains(row.first); });
}

}  // namespace

ClusterMemory remember(const LedgerContents& contents, milliseconds shift,
                       std::vector<std::string>* unreadable) {
  ClusterMemory memory;
  memory.boot = static_cast<uint32_t>(contents.boot);
  memory.life = contents.life;
  memory.new_life = contents.new_life.value_or("");
  memory.last_job = contents.last_job;
  *unreadable = contents.unreadable;
  for (const auto& [number, bytes] : contents.jobs) {
    JobRecord job = job_of(number, bytes, shift, contents);
    const JobId id = job.status.id;
    if (const auto store = contents.stores.find(number); store != contents.stores.end()) {
      memory.stores[id] = store->second;
    }
    if (const auto tasks = contents.tasks.find(number); tasks != contents.tasks.end()) {
      memory.tasks[id] = tasks->second;
    }
    if (const auto datasets = contents.datasets.find(number); datasets != contents.datasets.end()) {
      const std::string lost = remember_shards(datasets->second, &memory.shards[id]);
      if (!lost.empty() && job.damage.empty()) job.damage = lost;
    }
    if (!job.damage.empty()) unreadable->push_back(str_cat("job ", id, ": ", job.damage));
    memory.jobs.push_back(std::move(job));
  }
  if (any_unknown(contents.tasks, contents.jobs) || any_unknown(contents.stores, contents.jobs)) {
    unreadable->push_back("rows of jobs that have no row of their own");
  }
  for (const auto& [id, bytes] : contents.workers) {
    Result<WorkerRecord> worker = worker_record_from(bytes, shift);
    if (worker && worker->id == id) {
      memory.workers.push_back(std::move(*worker));
    } else {
      unreadable->push_back(str_cat("worker ", id));
    }
  }
  return memory;
}

}  // namespace longhaul

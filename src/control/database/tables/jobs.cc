#include "control/database/tables/jobs.h"

#include <string>
#include <utility>

#include "control/convert/job_proto.h"
#include "control/convert/worker_proto.h"
#include "control/database/clock_mark.h"
#include "longhaul/v1/record.pb.h"

namespace longhaul {
namespace {

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

uint64_t job_number(const JobId& id) {
  return std::stoull(id.substr(1));
}

JobId job_id(uint64_t number) {
  return str_cat("j", number);
}

Result<void> JobsTable::prepare(Sqlite& sqlite) {
  return prepare_all(sqlite, {{&put_, "INSERT OR REPLACE INTO jobs VALUES(?, ?)"},
                              {&drop_, "DELETE FROM jobs WHERE number=?"},
                              {&raise_last_,
                               "INSERT INTO meta VALUES('last_job', ?1) ON CONFLICT(name) DO UPDATE"
                               " SET value=max(value, ?1)"}});
}

Result<void> JobsTable::write(const Rows& rows) {
  for (const auto& [number, record] : rows.jobs) {
    const auto key = static_cast<int64_t>(number);
    Result<void> done = record ? put_.bind(key).bind(*record).run() : drop_.bind(key).run();
    // The highest number is kept by itself, so that the numbers of forgotten jobs are not given
    // again.
    if (done && record) done = raise_last_.bind(key).run();
    if (!done) return done;
  }
  return {};
}

Result<void> JobsTable::read(TableReader& reader, Kept* kept) {
  return reader.of_jobs(
      "its own row", "SELECT number, record FROM jobs",
      [kept](uint64_t job, const Statement& row) { (*kept)[job] = row.bytes(1); });
}

void JobsTable::collect(ClusterState& state, const std::string& job, Rows* rows) {
  const JobRecord* record = state.record(job);
  std::optional<std::string>& row = rows->jobs[job_number(job)];
  if (record != nullptr) row = to_bytes(*record);
}

std::string to_bytes(const JobRecord& job) {
  v1::JobRecord proto;
  proto.set_number(job.number);
  *proto.mutable_status() = to_proto(job.status);
  // Ranks follow as records of their own, which say more than their status.
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
  // from_proto() takes an unknown state for the first one, kPending: a job of a newer master that
  // has ended would wait to be started again.
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

}  // namespace longhaul

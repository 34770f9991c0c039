// The part of ClusterState that hands out index ranges of datasets to the ranks of gangs
// (shard_book.h).
#include "cluster/cluster_state.h"

namespace longhaul {
namespace {

// Of one life of one rank: another generation is another holder.
std::string incarnation_of(Generation generation, Rank rank) {
  return str_cat(generation, "/", rank);
}

}  // namespace

void ClusterState::shard_call(SessionId session, const ShardCallMessage& message, Now now) {
  if (!heard(session, now)) return;
  const WorkerRecord* worker = nullptr;
  Job* job = job_on(session, message.launch, &worker);
  const auto index = static_cast<size_t>(message.rank);
  ShardAnswerMessage reply{message.call_id, {}, std::nullopt};
  if (job == nullptr || job->tasks || message.rank < 0 || index >= job->status.ranks.size() ||
      job->status.ranks[index].worker != worker->id || job->status.ranks[index].accounted()) {
    reply.failure = Failure{ErrorKind::kStale,
                            str_cat("job ", message.launch.job, " generation ",
                                    message.launch.generation, " rank ", message.rank, " is over")};
  } else {
    const LeaseHolder holder{worker->id, incarnation_of(message.launch.generation, message.rank)};
    Result<ShardAnswer> answer =
        job->shards.exchange(holder, message.exchange, epochs_, now.instant);
    if (answer) {
      reply.answer = std::move(*answer);
    } else {
      reply.failure = answer.failure();
    }
    row_changed(kShardRows, job->status.id);
  }
  effects_.emplace_back(SendEffect{session, std::move(reply)});
}

ShardRows ClusterState::take_shard_rows(const JobId& id) {
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? ShardRows() : found->second.shards.take_rows();
}

const ShardBook* ClusterState::shards(const JobId& id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : &found->second.shards;
}

// A rank that has ended holds nothing; what it had not committed is somebody else's now.
void ClusterState::release_shards(Job& job, Rank rank) {
  if (job.shards.empty()) return;
  job.shards.release(incarnation_of(job.status.generation, rank));
  row_changed(kShardRows, job.status.id);
}

void ClusterState::release_shards(Job& job) {
  if (job.shards.empty()) return;
  job.shards.release_all();
  row_changed(kShardRows, job.status.id);
}

void ClusterState::restore_shards(Job& job, const std::map<std::string, ShardMemory>& datasets,
                                  Now now) {
  for (const auto& [name, dataset] : datasets) {
    const Result<void> restored = job.shards.restore(name, dataset.plan, dataset.rows, now.instant);
    if (!restored) {
      note("job ", job.status.id, " dataset '", name, "': ", restored.failure().message);
      if (job.damage.empty())
        job.damage = str_cat("dataset '", name, "': ", restored.failure().message);
    }
  }
}

}  // namespace longhaul

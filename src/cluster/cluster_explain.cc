// The part of ClusterState that collects what explain() needs to know.
#include <algorithm>

#include "cluster/cluster_state.h"

namespace longhaul {

int ClusterState::slots_held(const Job& job) {
  if (job.tasks) return static_cast<int>(job.batches.size());
  if (!job.holds_slots) return 0;
  size_t held = 0;
  for (const RankShare& share : job.shares) held += share.ranks.size();
  return static_cast<int>(held);
}

Explanation ClusterState::explain(const JobId& id, Now now) const {
  const Job& job = jobs_.at(id);
  const auto left = [&](std::optional<Instant> at) -> std::optional<milliseconds> {
    if (!at || *at <= now.instant) return std::nullopt;
    return std::chrono::duration_cast<milliseconds>(*at - now.instant);
  };
  ExplainFacts facts;
  facts.job = job.status;
  for (const auto& [worker_id, worker] : workers_.all()) {
    if (worker.state == WorkerState::kLost) continue;
    facts.nodes.push_back({worker_id, worker.state == WorkerState::kReady && worker.session,
                           worker.drained, worker.registration.room(), free_of(worker)});
  }
  for (const auto& [place, other_id] : active_) {
    const Job& other = jobs_.at(other_id);
    const int held = slots_held(other);
    const bool earlier = other.status.state == JobState::kPending && place < job.place();
    if (other_id == id || (held == 0 && !earlier)) continue;
    facts.ahead.push_back({other_id, other.status.spec.name, other.status.state, held});
  }
  if (job.status.state == JobState::kPending) facts.starts_again_in = left(job.retry_at);
  if (job.status.state == JobState::kStarting) {
    for (const RankShare& share : job.shares) {
      if (!job.prepared.contains(share.worker)) facts.unprepared.push_back(share.worker);
    }
  }
  facts.acts_in = left(job.give_up_at);
  facts.killed = job.killed;
  if (job.status.hang) {
    facts.quiet = milliseconds(now.unix_ms - std::min(now.unix_ms, job.status.hang->unix_ms_since));
  }
  return longhaul::explain(facts);
}

}  // namespace longhaul

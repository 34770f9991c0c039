// The part of ClusterState that deals with workers: their streams, their silence, their return.
#include <algorithm>

#include "cluster/cluster_state.h"

namespace longhaul {
namespace {

// Not one of its ranks has been reported as spawned, or as anything else.
bool never_heard_of(const JobRecord& job, const WorkerId& worker) {
  return std::all_of(job.status.ranks.begin(), job.status.ranks.end(), [&](const RankRecord& rank) {
    return rank.worker != worker || rank.state == RankState::kAssigned;
  });
}

}  // namespace

void ClusterState::register_worker(SessionId session, const WorkerRegistration& registration,
                                   Now now) {
  // Another incarnation takes the id of a silent one: the ranks of the old one are gone.
  const WorkerTable::Registration result = workers_.register_worker(session, registration, now);
  if (!result.refused.empty()) {
    note("refused a worker on ", registration.host, ": ", result.refused);
    effects_.emplace_back(SendEffect{session, RefusedMessage{result.refused}});
    effects_.emplace_back(CloseEffect{session});
    return;
  }
  if (result.replaced) {
    for (auto& [id, job] : jobs_) job.store.drop_session(*result.replaced);
    effects_.emplace_back(CloseEffect{*result.replaced});
  }
  if (result.restarted) worker_lost(*result.restarted, "it was restarted", now);

  const WorkerRecord& worker = *workers_.find(result.id);
  row_changed(kWorkerRows, result.id);
  RegisteredMessage registered{
      result.id, life_, options_.workers.heartbeat_interval, options_.workers.lease, {}, {}};
  for (const LaunchId& launch : registration.inventory) {
    if (runs(result.id, launch)) continue;
    (may_have_run(result.id, launch) ? registered.over : registered.unknown).push_back(launch);
  }
  note("worker ", result.id, " on ", registration.host, " (", registration.address,
       ") is ready: ", registration.slots, " slots, ", registration.inventory.size(),
       " launches running, ", registered.unknown.size(), " of them unknown, ",
       registered.over.size(), " of them over");
  happened(result.continued ? EventKind::kWorkerReturned : EventKind::kWorkerRegistered, result.id,
           str_cat("on ", registration.host, " (", registration.address, ") with ",
                   registration.slots, " slots, ", registration.inventory.size(),
                   " launches running", result.returned_from_lost ? ", after it was lost" : "",
                   worker.drained ? "; it is drained" : ""));
  send(result.id, registered);
  // Leases of jobs that have ended or were forgotten are to be dropped too.
  for (const HeldLease& one : registration.leases) {
    const Job* job = job_of(one.launch);
    if (job == nullptr || !job->tasks || has_ended(job->status.state)) {
      send(result.id, TaskAnswersMessage{.taken = {}, .stale = {one.lease.epoch}});
    }
  }
  resume(worker, now);
  schedule(now);
}

// Whether what the worker says of this launch counts.
bool ClusterState::runs(const WorkerId& worker, const LaunchId& launch) const {
  const auto found = jobs_.find(launch.job);
  if (found == jobs_.end()) return false;
  const Job& job = found->second;
  if (job.launch() != launch || has_ended(job.status.state)) return false;
  return job.tasks ||
         std::any_of(job.status.ranks.begin(), job.status.ranks.end(), [&](const RankRecord& rank) {
           return rank.worker == worker && rank.state != RankState::kLost;
         });
}

// Who held the ranks of an older generation is not kept, and need not be: each generation was
// launched once, so nobody but the worker that ran a rank has anything that it printed.
bool ClusterState::may_have_run(const WorkerId& worker, const LaunchId& launch) const {
  const auto found = jobs_.find(launch.job);
  if (found == jobs_.end() || launch.life != life_) return false;
  const JobStatus& job = found->second.status;
  if (launch.generation != job.generation) return launch.generation < job.generation;
  return std::any_of(job.ranks.begin(), job.ranks.end(),
                     [&](const RankRecord& rank) { return rank.worker == worker; });
}

// What a worker may have missed while its stream was broken.
void ClusterState::resume(const WorkerRecord& worker, Now now) {
  for (auto& [id, job] : jobs_) {
    if (has_ended(job.status.state)) continue;
    if (job.tasks) {
      resume_tasks(job, worker);
      continue;
    }
    const bool holds_some = std::any_of(
        job.status.ranks.begin(), job.status.ranks.end(),
        [&](const RankRecord& rank) { return rank.worker == worker.id && !rank.accounted(); });
    if (!holds_some) continue;
    const auto& inventory = worker.registration.inventory;
    const bool runs =
        std::find(inventory.begin(), inventory.end(), job.launch()) != inventory.end();
    job.missing_since.erase(worker.id);
    if (job.status.state == JobState::kStarting) {
      job.prepared.erase(worker.id);
      prepare(job, worker.id);
    } else if (!runs && job.status.state == JobState::kRunning && never_heard_of(job, worker.id)) {
      // The launch may have been lost on the way; a worker that has it ignores the second.
      for (size_t share = 0; share < job.shares.size(); ++share) {
        if (job.shares[share].worker == worker.id) send_launch(job, share);
      }
    } else if (!runs) {
      job.missing_since[worker.id] = now.instant;
    }
    if (job.status.state == JobState::kStopping) send_stop(job, worker.id);
  }
}

void ClusterState::session_closed(SessionId session, bool goodbye, Now now) {
  const WorkerRecord* worker = workers_.by_session(session);
  for (auto& [id, job] : jobs_) job.store.drop_session(session);
  if (worker == nullptr) return;
  const WorkerId id = worker->id;
  workers_.session_closed(session, goodbye, now);
  if (goodbye) {
    row_changed(kWorkerRows, id);
    worker_lost(id, "it was shut down", now, /*preempted=*/true);
    schedule(now);
  } else {
    note("worker ", id, " is unreachable: its stream broke");
    happened(EventKind::kWorkerUnreachable, id, "its stream broke");
  }
  for (auto& [job_id, job] : jobs_) {
    if (!has_ended(job.status.state)) review(job, now);
  }
}

void ClusterState::worker_lost(const WorkerId& id, const std::string& why, Now now,
                               bool preempted) {
  note("worker ", id, " is lost: ", why);
  happened(EventKind::kWorkerLost, id, why);
  if (const WorkerRecord* worker = workers_.find(id);
      worker != nullptr && worker->state == WorkerState::kLost && worker->session) {
    effects_.emplace_back(CloseEffect{*worker->session});
  }
  for (auto& [job_id, job] : jobs_) {
    if (has_ended(job.status.state)) continue;
    if (job.tasks) {
      lose_leases(job, id, why, now);
      continue;
    }
    bool held_some = false;
    for (RankRecord& rank : job.status.ranks) {
      if (rank.worker != id || rank.accounted()) continue;
      held_some = true;
      job.lost_workers[id] = {id, rank.host, true, why, ++order_, std::nullopt, preempted};
      lose_rank(rank, now);
    }
    if (!held_some) continue;
    job.missing_since.erase(id);
    changed(job);
    review(job, now);
  }
}

bool ClusterState::heard(SessionId session, Now now, bool is_heartbeat) {
  if (is_heartbeat ? workers_.heartbeat(session, now) : workers_.heard(session, now)) {
    note("worker ", workers_.by_session(session)->id, " is ready again");
    happened(EventKind::kWorkerReturned, workers_.by_session(session)->id, "it is heard again");
    schedule(now);
  }
  const WorkerRecord* worker = workers_.by_session(session);
  return worker != nullptr && worker->state != WorkerState::kLost;
}

Failure ClusterState::no_such_worker(const WorkerId& id) const {
  std::vector<std::string> ids;
  for (const auto& [known, worker] : workers_.all()) ids.push_back(known);
  const std::string near = closest_match(id, ids);
  return {ErrorKind::kInvalid, str_cat("no worker '", id, "'",
                                       near.empty() ? "; `longhaul nodes` lists them"
                                                    : str_cat(": did you mean '", near, "'?"))};
}

Result<void> ClusterState::forget_worker(const WorkerId& id) {
  const WorkerRecord* worker = workers_.find(id);
  if (worker == nullptr) return no_such_worker(id);
  if (worker->state != WorkerState::kLost) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("worker ", id, " is ", to_string(worker->state),
                           ", and only one that is lost is forgotten: stop it first")};
  }
  workers_.forget(id);
  note("worker ", id, " is forgotten");
  happened(EventKind::kWorkerForgotten, id, "an operator had it forgotten");
  row_changed(kWorkerRows, id);
  return {};
}

Result<void> ClusterState::drain(const WorkerId& id, bool drained, Now now) {
  if (!workers_.drain(id, drained)) return no_such_worker(id);
  note("worker ", id, drained ? " is drained" : " takes new work again");
  happened(drained ? EventKind::kWorkerDrained : EventKind::kWorkerUndrained, id,
           drained ? "it gets no new work" : "it takes new work again");
  row_changed(kWorkerRows, id);
  schedule(now);
  return {};
}

void ClusterState::heartbeat(SessionId session, uint64_t sequence, Now now) {
  if (heard(session, now, true)) {
    effects_.emplace_back(SendEffect{session, HeartbeatMessage{sequence}});
  }
}

// The job of a launch that runs, when the stream's worker holds some of its ranks.
ClusterState::Job* ClusterState::job_on(SessionId session, const LaunchId& launch,
                                        const WorkerRecord** worker) {
  *worker = workers_.by_session(session);
  Job* job = job_of(launch);
  if (*worker == nullptr || job == nullptr || has_ended(job->status.state)) return nullptr;
  return job->held_by.contains((*worker)->id) ? job : nullptr;
}

void ClusterState::send(const WorkerId& worker, ToWorker message) {
  const WorkerRecord* record = workers_.find(worker);
  if (record == nullptr || !record->session) return;  // resume() tells it later
  effects_.emplace_back(SendEffect{*record->session, std::move(message)});
}

}  // namespace longhaul

// The part of ClusterState that deals with workers: their streams, their silence, their return.
#include "cluster/cluster_state.h"

namespace longhaul {

void ClusterState::register_worker(SessionId session, const WorkerRegistration& registration,
                                   Now now) {
  // Another incarnation may take over the id of a silent worker (`restarted`). Whatever ran under
  // the old one is gone then: a worker that adopts ranks keeps the incarnation.
  const WorkerTable::Registration result =
      site_.workers.register_worker(session, registration, now);
  if (!result.refused.empty()) {
    site_.note("refused a worker on ", registration.host, ": ", result.refused);
    site_.effects.emplace_back(SendEffect{session, RefusedMessage{result.refused}});
    site_.effects.emplace_back(CloseEffect{session});
    return;
  }
  if (result.replaced) {
    // Store calls that waited on the old stream are forgotten: the worker makes them again on the
    // new one.
    for (auto& [id, work] : jobs_) work->session_closed(*result.replaced);
    site_.effects.emplace_back(CloseEffect{*result.replaced});
  }
  if (result.restarted) worker_lost(*result.restarted, "it was restarted", now);

  // A worker whose lease had run out comes back under its old incarnation, but its ranks and leases
  // have been given up: runs() is false of its launches, and its leases are stale.
  const WorkerRecord& worker = *site_.workers.find(result.id);
  site_.row_changed(kWorkerRows, result.id);
  RegisteredMessage registered{
      result.id, site_.life, site_.options.workers.heartbeat_interval, site_.options.workers.lease,
      {},        {}};
  for (const LaunchId& launch : registration.inventory) {
    if (runs(result.id, launch)) continue;
    (may_have_run(result.id, launch) ? registered.over : registered.unknown).push_back(launch);
  }
  site_.note("worker ", result.id, " on ", registration.host, " (", registration.address,
             ") is ready: ", registration.slots, " slots, ", registration.inventory.size(),
             " launches running, ", registered.unknown.size(), " of them unknown, ",
             registered.over.size(), " of them over");
  site_.happened(
      result.continued ? EventKind::kWorkerReturned : EventKind::kWorkerRegistered, result.id,
      str_cat("on ", registration.host, " (", registration.address, ") with ", registration.slots,
              " slots, ", registration.inventory.size(), " launches running",
              result.returned_from_lost ? ", after it was lost" : "",
              worker.drained ? "; it is drained" : ""));
  // The worker ignores whatever comes before this message on a new stream, so all that it is to do
  // is sent after it.
  site_.send(result.id, registered);
  // Leases of jobs that have ended or were forgotten. Those of the others are answered by
  // worker_back().
  for (const HeldLease& one : registration.leases) {
    const Work* work = work_of(one.launch);
    if (work == nullptr || !work->takes_single_slots() || work->ended()) {
      site_.send(result.id, TaskAnswersMessage{.taken = {}, .stale = {one.lease.epoch}});
    }
  }
  for (auto& [id, work] : jobs_) {
    if (!work->ended()) work->worker_back(worker, now);
  }
  schedule(now);
}

// Whether what the worker says of this launch counts.
bool ClusterState::runs(const WorkerId& worker, const LaunchId& launch) const {
  const Work* work = work_of(launch);
  return work != nullptr && !work->ended() && work->runs(worker);
}

// Which worker held the ranks of an older generation is not kept, and need not be: a generation is
// launched once, so only the worker that ran a rank has anything that it printed.
bool ClusterState::may_have_run(const WorkerId& worker, const LaunchId& launch) const {
  const Work* work = find_work(launch.job);
  if (work == nullptr || launch.life != site_.life) return false;
  const Generation running = work->status().generation;
  if (launch.generation != running) return launch.generation < running;
  return work->may_have_run(worker);
}

void ClusterState::session_closed(SessionId session, bool goodbye, Now now) {
  const WorkerRecord* worker = site_.workers.by_session(session);
  for (auto& [id, work] : jobs_) work->session_closed(session);
  if (worker == nullptr) return;
  const WorkerId id = worker->id;
  site_.workers.session_closed(session, goodbye, now);
  if (goodbye) {
    site_.row_changed(kWorkerRows, id);
    worker_lost(id, "it was shut down", now, /*preempted=*/true);
    schedule(now);
  } else {
    site_.note("worker ", id, " is unreachable: its stream broke");
    site_.happened(EventKind::kWorkerUnreachable, id, "its stream broke");
  }
  // A verdict may now have to wait for the lease of this worker.
  for (auto& [job_id, work] : jobs_) {
    if (!work->ended()) work->review(now);
  }
}

void ClusterState::worker_lost(const WorkerId& id, const std::string& why, Now now,
                               bool preempted) {
  site_.note("worker ", id, " is lost: ", why);
  site_.happened(EventKind::kWorkerLost, id, why);
  // The stream of a worker that fell silent may still be open. It must dial again: LOST ends only
  // with a new registration, in which it says what it still runs.
  if (const WorkerRecord* worker = site_.workers.find(id);
      worker != nullptr && worker->state == WorkerState::kLost && worker->session) {
    site_.effects.emplace_back(CloseEffect{*worker->session});
  }
  for (auto& [job_id, work] : jobs_) {
    if (!work->ended()) work->worker_lost(id, why, preempted, now);
  }
}

bool ClusterState::heard(SessionId session, Now now, bool is_heartbeat) {
  // Anything that a worker says is a sign of life, so a worker that was unreachable may be ready
  // now; its free slots count again.
  if (is_heartbeat ? site_.workers.heartbeat(session, now) : site_.workers.heard(session, now)) {
    site_.note("worker ", site_.workers.by_session(session)->id, " is ready again");
    site_.happened(EventKind::kWorkerReturned, site_.workers.by_session(session)->id,
                   "it is heard again");
    schedule(now);
  }
  const WorkerRecord* worker = site_.workers.by_session(session);
  return worker != nullptr && worker->state != WorkerState::kLost;
}

Failure ClusterState::no_such_worker(const WorkerId& id) const {
  std::vector<std::string> ids;
  for (const auto& [known, worker] : site_.workers.all()) ids.push_back(known);
  const std::string near = closest_match(id, ids);
  return {ErrorKind::kInvalid, str_cat("no worker '", id, "'",
                                       near.empty() ? "; `longhaul nodes` lists them"
                                                    : str_cat(": did you mean '", near, "'?"))};
}

Result<void> ClusterState::forget_worker(const WorkerId& id) {
  const WorkerRecord* worker = site_.workers.find(id);
  if (worker == nullptr) return no_such_worker(id);
  if (worker->state != WorkerState::kLost) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("worker ", id, " is ", to_string(worker->state),
                           ", and only one that is lost is forgotten: stop it first")};
  }
  site_.workers.forget(id);
  site_.note("worker ", id, " is forgotten");
  site_.happened(EventKind::kWorkerForgotten, id, "an operator had it forgotten");
  site_.row_changed(kWorkerRows, id);
  return {};
}

Result<void> ClusterState::drain(const WorkerId& id, bool drained, Now now) {
  if (!site_.workers.drain(id, drained)) return no_such_worker(id);
  site_.note("worker ", id, drained ? " is drained" : " takes new work again");
  site_.happened(drained ? EventKind::kWorkerDrained : EventKind::kWorkerUndrained, id,
                 drained ? "it gets no new work" : "it takes new work again");
  site_.row_changed(kWorkerRows, id);
  schedule(now);
  return {};
}

void ClusterState::heartbeat(SessionId session, uint64_t sequence, Now now) {
  // The answer tells the worker that everything that it sent before this heartbeat is on disk: it
  // forgets the events that it kept to send again (control/worker/session/outbox.h). The commit
  // gate holds it until that is so.
  if (heard(session, now, true)) {
    site_.effects.emplace_back(SendEffect{session, HeartbeatMessage{sequence}});
  }
}

void ClusterState::prepared(SessionId session, const PreparedMessage& message, Now now) {
  hear(session, message.launch, message, now);
}

void ClusterState::rank_event(SessionId session, const RankEventMessage& message, Now now) {
  hear(session, message.launch, message, now);
}

void ClusterState::store_call(SessionId session, const StoreCallMessage& message, Now now) {
  hear(session, message.launch, message, now);
}

void ClusterState::shard_call(SessionId session, const ShardCallMessage& message, Now now) {
  hear(session, message.launch, message, now);
}

// Passes a message on to its job, if the launch is the one that runs now and the worker holds some
// of it. Late or misdirected reports are dropped here, which is what makes it safe for workers to
// repeat them.
void ClusterState::hear(SessionId session, const LaunchId& launch, const FromWorker& message,
                        Now now) {
  if (!heard(session, now)) return;
  const WorkerRecord* worker = site_.workers.by_session(session);
  Work* work = work_of(launch);
  Work::Heard outcome = Work::Heard::kNotMine;
  if (work != nullptr && !work->ended() && work->holds(worker->id)) {
    outcome = work->heard(session, *worker, message, now);
  }
  if (outcome == Work::Heard::kNotMine) refuse(session, message);
  if (outcome == Work::Heard::kRoomFreed) schedule(now);
}

// A rank is blocked in such a call and must get an answer. Reports need none.
void ClusterState::refuse(SessionId session, const FromWorker& message) {
  if (const auto* call = std::get_if<StoreCallMessage>(&message)) {
    const Failure stale{ErrorKind::kStale, str_cat("job ", call->launch.job, " generation ",
                                                   call->launch.generation, " is over")};
    site_.answer({{{session, call->call_id, call->rank, ""}, {stale, "", 0}}});
  } else if (const auto* shard = std::get_if<ShardCallMessage>(&message)) {
    const Failure stale{ErrorKind::kStale,
                        str_cat("job ", shard->launch.job, " generation ", shard->launch.generation,
                                " rank ", shard->rank, " is over")};
    site_.effects.emplace_back(SendEffect{session, ShardAnswerMessage{shard->call_id, {}, stale}});
  }
}

std::vector<CommitOutcome> ClusterState::tasks_ended(SessionId session,
                                                     const std::vector<TaskEndedMessage>& messages,
                                                     Now now) {
  if (!heard(session, now)) return {};
  const WorkerRecord* worker = site_.workers.by_session(session);
  std::vector<CommitOutcome> outcomes;
  outcomes.reserve(messages.size());
  TaskAnswersMessage answers;
  std::map<JobId, Work*> jobs;
  for (const TaskEndedMessage& message : messages) {
    CommitOutcome outcome = CommitOutcome::kUnknown;
    // Not work_of(): whether an end counts is for its lease to say, also when the job has ended.
    Work* work = find_work(message.launch.job);
    if (work != nullptr && message.launch.life == site_.life &&
        message.lease.incarnation == worker->registration.incarnation) {
      outcome = work->task_ended(message, now);
      if (work->takes_single_slots()) jobs[work->id()] = work;
    }
    // Every end is answered, also a stale one: the worker keeps it, and sends it again, until then.
    const bool taken = outcome == CommitOutcome::kCommitted || outcome == CommitOutcome::kRepeated;
    (taken ? answers.taken : answers.stale).push_back(message.lease.epoch);
    outcomes.push_back(outcome);
  }
  // Once for all of them: each review, row and status costs the same for one task as for a
  // thousand.
  for (const auto& [id, work] : jobs) work->tasks_have_ended(now);
  site_.effects.emplace_back(SendEffect{session, std::move(answers)});
  // The slots that have become free are filled in the same turn, so the next tasks travel in the
  // message that answers these (Core::answer_tasks()). A gang with a reservation may fit now, which
  // only a plan can tell.
  refill(worker->id, now);
  if (site_.reserved) schedule_soon(now);
  return outcomes;
}

void ClusterState::input_missing(const LaunchId& launch, const Lease& lease, const Failure& why,
                                 Now now) {
  if (Work* work = work_of(launch)) work->input_missing(lease, why, now);
}

}  // namespace longhaul

#include "cluster/workers/worker_table.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "cluster/jobs/user_text.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr int kMaxSlots = 4096;

// "" or why this registration cannot be taken.
std::string why_refused(const WorkerRegistration& registration) {
  if (registration.incarnation.empty()) return "a worker needs an incarnation";
  if (registration.slots < 1 || registration.slots > kMaxSlots) {
    return str_cat("a worker offers 1 to ", kMaxSlots, " slots, not ", registration.slots);
  }
  // An id may get a suffix.
  constexpr size_t kMaxIdBytes = kMaxNameBytes - 8;
  if (registration.wanted_id.size() > kMaxIdBytes) {
    return str_cat("a worker's id has at most ", kMaxIdBytes, " bytes");
  }
  const std::pair<const char*, const std::string&> texts[] = {
      {"a worker's id", registration.wanted_id},
      {"a worker's host name", registration.host},
      {"a worker's address", registration.address},
      {"a worker's incarnation", registration.incarnation},
      {"a worker's version", registration.version}};
  for (const auto& [what, text] : texts) {
    const std::optional<Failure> bad = text.empty() ? std::nullopt : why_no_name(what, text);
    if (bad) return bad->message;
  }
  return "";
}

}  // namespace

std::string_view to_string(WorkerState state) {
  switch (state) {
    case WorkerState::kReady:
      return "ready";
    case WorkerState::kUnreachable:
      return "unreachable";
    case WorkerState::kLost:
      return "lost";
  }
  return "unknown";
}

WorkerTable::Registration WorkerTable::register_worker(SessionId session,
                                                       const WorkerRegistration& registration,
                                                       Now now) {
  Registration result;
  result.refused = why_refused(registration);
  if (!result.refused.empty()) return result;

  WorkerRecord* worker = nullptr;
  for (auto& [id, record] : workers_) {
    // Under whatever id: it may have been given a suffix when it first came.
    if (record.registration.incarnation == registration.incarnation) worker = &record;
  }
  if (worker != nullptr) {
    result.id = worker->id;
    result.continued = true;
    result.replaced = worker->session;
    result.returned_from_lost = worker->state == WorkerState::kLost;
  } else {
    result.id = free_id(registration);
    worker = &workers_[result.id];
    if (!worker->id.empty() && worker->state != WorkerState::kLost) {
      result.restarted = result.id;
      result.replaced = worker->session;
    }
  }
  // A drain is an operator's word about the host and outlives the registration.
  if (worker->session) by_session_.erase(*worker->session);
  const bool drained = worker->drained;
  *worker = {};
  worker->id = result.id;
  worker->registration = registration;
  worker->session = session;
  worker->last_heard = now.instant;
  worker->unix_ms_last_heard = now.unix_ms;
  worker->drained = drained;
  by_session_[session] = worker;
  return result;
}

bool WorkerTable::drain(const WorkerId& id, bool drained) {
  const auto worker = workers_.find(id);
  if (worker == workers_.end()) return false;
  worker->second.drained = drained;
  return true;
}

void WorkerTable::restore(WorkerRecord worker, Now now) {
  worker.session.reset();
  if (worker.state == WorkerState::kLost && worker.lost_at == Instant()) {
    worker.lost_at = now.instant;
  }
  if (worker.state != WorkerState::kLost) {
    worker.state = WorkerState::kUnreachable;
    // As if it had been heard in the future, so that its lease ends when the grace does.
    worker.last_heard =
        now.instant + std::max(milliseconds(0), options_.return_grace - options_.lease);
  }
  workers_[worker.id] = std::move(worker);
}

bool WorkerTable::forget(const WorkerId& id) {
  const auto worker = workers_.find(id);
  if (worker == workers_.end() || worker->second.state != WorkerState::kLost) return false;
  erase(worker);
  return true;
}

WorkerTable::Workers::iterator WorkerTable::erase(Workers::iterator worker) {
  if (worker->second.session) by_session_.erase(*worker->second.session);
  return workers_.erase(worker);
}

void WorkerTable::lose(WorkerRecord& worker, std::string why, Instant now) {
  worker.state = WorkerState::kLost;
  worker.why_lost = std::move(why);
  worker.lost_at = now;
}

std::vector<WorkerId> WorkerTable::lose_all(const std::string& why, Now now) {
  std::vector<WorkerId> lost;
  for (auto& [id, worker] : workers_) {
    if (worker.state == WorkerState::kLost) continue;
    lose(worker, why, now.instant);
    lost.push_back(id);
  }
  return lost;
}

WorkerId WorkerTable::free_id(const WorkerRegistration& registration) const {
  const WorkerId base = !registration.wanted_id.empty() ? registration.wanted_id
                        : !registration.host.empty()    ? registration.host
                                                        : "worker";
  WorkerId id = base;
  for (int suffix = 2;; ++suffix) {
    const auto taken = workers_.find(id);
    // A worker that is silent most likely was restarted, as the one that registers now. One that is
    // READY is another worker on the same host, or has the same name by mistake.
    if (taken == workers_.end() || taken->second.state != WorkerState::kReady) return id;
    id = str_cat(base, "-", suffix);
  }
}

bool WorkerTable::heard(SessionId session, Now now) {
  WorkerRecord* worker = session_owner(session);
  // LOST ends only with a new registration: its ranks and leases have been given up.
  if (worker == nullptr || worker->state == WorkerState::kLost) return false;
  worker->last_heard = now.instant;
  worker->unix_ms_last_heard = now.unix_ms;
  const bool changed = worker->state != WorkerState::kReady;
  worker->state = WorkerState::kReady;
  return changed;
}

bool WorkerTable::heartbeat(SessionId session, Now now) {
  WorkerRecord* worker = session_owner(session);
  if (worker != nullptr) worker->jitter.arrived(now.instant, options_.heartbeat_interval);
  return heard(session, now);
}

milliseconds WorkerTable::unreachable_after(const WorkerRecord& worker) const {
  return options_.missed_heartbeats * options_.heartbeat_interval +
         worker.jitter.margin(options_.most_margin);
}

milliseconds WorkerTable::lost_after(const WorkerRecord& worker) const {
  return options_.lease + worker.jitter.margin(options_.most_margin);
}

void WorkerTable::session_closed(SessionId session, bool goodbye, Now now) {
  WorkerRecord* worker = session_owner(session);
  if (worker == nullptr) return;
  worker->session.reset();
  by_session_.erase(session);
  if (worker->state == WorkerState::kLost) return;
  // At once: a broken stream needs no missed heartbeats to be believed. The lease runs from when it
  // was last heard.
  worker->state = WorkerState::kUnreachable;
  if (goodbye) lose(*worker, "it said goodbye", now.instant);
}

std::vector<WorkerId> WorkerTable::sweep(Instant now) {
  std::vector<WorkerId> changed;
  for (auto& [id, worker] : workers_) {
    const auto silence = std::chrono::duration_cast<milliseconds>(now - worker.last_heard);
    const WorkerState before = worker.state;
    if (before == WorkerState::kReady && silence > unreachable_after(worker)) {
      worker.state = WorkerState::kUnreachable;
    }
    // Not `else`: the master may have looked away for longer than the lease.
    if (worker.state == WorkerState::kUnreachable && silence >= lost_after(worker)) {
      lose(worker,
           str_cat("silent for ", format_seconds(static_cast<double>(silence.count()) / 1000),
                   ", its lease was ", lost_after(worker).count(), " ms"),
           now);
    }
    if (worker.state != before) changed.push_back(id);
  }
  forget_long_lost(now, changed);
  forget_oldest_lost(changed);
  return changed;
}

std::optional<Instant> WorkerTable::next_deadline() const {
  std::optional<Instant> next;
  for (const auto& [id, worker] : workers_) {
    if (worker.state == WorkerState::kLost) continue;
    // A millisecond later, because sweep() compares whole milliseconds and asks for more than the
    // limit there.
    const Instant at = worker.state == WorkerState::kReady
                           ? worker.last_heard + unreachable_after(worker) + milliseconds(1)
                           : worker.last_heard + lost_after(worker);
    if (!next || at < *next) next = at;
  }
  return next;
}

void WorkerTable::forgive_silence(milliseconds gap) {
  for (auto& [id, worker] : workers_) {
    worker.last_heard += gap;
    worker.jitter.forgive(gap);
  }
}

void WorkerTable::forget_long_lost(Instant now, std::vector<WorkerId>& forgotten) {
  for (auto worker = workers_.begin(); worker != workers_.end();) {
    const WorkerRecord& record = worker->second;
    const bool long_lost =
        record.state == WorkerState::kLost && now - record.lost_at >= options_.forget_lost_after;
    if (long_lost) forgotten.push_back(worker->first);
    worker = long_lost ? erase(worker) : std::next(worker);
  }
}

void WorkerTable::forget_oldest_lost(std::vector<WorkerId>& forgotten) {
  while (true) {
    size_t lost = 0;
    auto oldest = workers_.end();
    for (auto it = workers_.begin(); it != workers_.end(); ++it) {
      // That a worker is drained must be known when it comes back, unless that takes too long.
      if (it->second.state != WorkerState::kLost || it->second.drained) continue;
      ++lost;
      if (oldest == workers_.end() || it->second.last_heard < oldest->second.last_heard)
        oldest = it;
    }
    if (lost <= options_.keep_lost) return;
    forgotten.push_back(oldest->first);
    erase(oldest);
  }
}

const WorkerRecord* WorkerTable::find(const WorkerId& id) const {
  const auto found = workers_.find(id);
  return found == workers_.end() ? nullptr : &found->second;
}

const WorkerRecord* WorkerTable::by_session(SessionId session) const {
  const auto found = by_session_.find(session);
  return found == by_session_.end() ? nullptr : found->second;
}

WorkerRecord* WorkerTable::session_owner(SessionId session) {
  const auto found = by_session_.find(session);
  return found == by_session_.end() ? nullptr : found->second;
}

std::optional<Instant> WorkerTable::lease_ends(const WorkerRecord& worker, Instant now) const {
  if (worker.state == WorkerState::kLost) return std::nullopt;
  // One and a half intervals: a heartbeat that is on its way is no silence yet.
  const bool fresh =
      worker.session && now - worker.last_heard <= options_.heartbeat_interval * 3 / 2;
  if (fresh) return std::nullopt;
  return worker.last_heard + lost_after(worker);
}

}  // namespace longhaul

#include "longhaul/membership/worker_table.h"

#include <algorithm>

#include "longhaul/base/capped.h"
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
  if (registration.wanted_id.size() > 128) return "a worker's id has at most 128 bytes";
  for (const std::string* word : {&registration.incarnation, &registration.host,
                                  &registration.address, &registration.version}) {
    if (word->size() > limits::kWord) {
      return str_cat("a worker's host, address, version and incarnation have at most ",
                     limits::kWord, " bytes each");
    }
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
  if (worker->session) by_session_.erase(*worker->session);
  const bool drained = worker->drained;
  *worker = {result.id, registration, WorkerState::kReady, session, now.instant, now.unix_ms, "",
             {},        drained};
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
  if (worker.state != WorkerState::kLost) {
    worker.state = WorkerState::kUnreachable;
    // As if heard in the future: its lease ends with the grace.
    worker.last_heard =
        now.instant + std::max(milliseconds(0), options_.return_grace - options_.lease);
  }
  workers_[worker.id] = std::move(worker);
}

WorkerId WorkerTable::free_id(const WorkerRegistration& registration) const {
  const WorkerId base = !registration.wanted_id.empty() ? registration.wanted_id
                        : !registration.host.empty()    ? registration.host
                                                        : "worker";
  WorkerId id = base;
  for (int suffix = 2;; ++suffix) {
    const auto taken = workers_.find(id);
    if (taken == workers_.end() || taken->second.state != WorkerState::kReady) return id;
    id = str_cat(base, "-", suffix);
  }
}

bool WorkerTable::heard(SessionId session, Now now) {
  WorkerRecord* worker = session_owner(session);
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

void WorkerTable::session_closed(SessionId session, bool goodbye) {
  WorkerRecord* worker = session_owner(session);
  if (worker == nullptr) return;
  worker->session.reset();
  by_session_.erase(session);
  if (worker->state == WorkerState::kLost) return;
  worker->state = goodbye ? WorkerState::kLost : WorkerState::kUnreachable;
  if (goodbye) worker->why_lost = "it said goodbye";
}

std::vector<WorkerId> WorkerTable::sweep(Instant now) {
  std::vector<WorkerId> changed;
  for (auto& [id, worker] : workers_) {
    const auto silence = std::chrono::duration_cast<milliseconds>(now - worker.last_heard);
    const WorkerState before = worker.state;
    if (before == WorkerState::kReady && silence > unreachable_after(worker)) {
      worker.state = WorkerState::kUnreachable;
    }
    if (worker.state == WorkerState::kUnreachable && silence >= lost_after(worker)) {
      worker.state = WorkerState::kLost;
      worker.why_lost =
          str_cat("silent for ", format_seconds(static_cast<double>(silence.count()) / 1000),
                  ", its lease was ", lost_after(worker).count(), " ms");
    }
    if (worker.state != before) changed.push_back(id);
  }
  forget_oldest_lost(changed);
  return changed;
}

std::optional<Instant> WorkerTable::next_deadline() const {
  std::optional<Instant> next;
  for (const auto& [id, worker] : workers_) {
    if (worker.state == WorkerState::kLost) continue;
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

void WorkerTable::forget_oldest_lost(std::vector<WorkerId>& forgotten) {
  while (true) {
    size_t lost = 0;
    auto oldest = workers_.end();
    for (auto it = workers_.begin(); it != workers_.end(); ++it) {
      // That a worker is drained must be known when it comes back.
      if (it->second.state != WorkerState::kLost || it->second.drained) continue;
      ++lost;
      if (oldest == workers_.end() || it->second.last_heard < oldest->second.last_heard)
        oldest = it;
    }
    if (lost <= options_.keep_lost) return;
    forgotten.push_back(oldest->first);
    if (oldest->second.session) by_session_.erase(*oldest->second.session);
    workers_.erase(oldest);
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
  const bool fresh =
      worker.session && now - worker.last_heard <= options_.heartbeat_interval * 3 / 2;
  if (fresh) return std::nullopt;
  return worker.last_heard + lost_after(worker);
}

}  // namespace longhaul

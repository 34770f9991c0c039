// The workers that a master knows: who is there, who is silent, whose lease has run out. Silence is
// not failure: a worker that cannot be reached is UNREACHABLE and keeps its ranks; it is LOST only
// when its lease has run out, when it says goodbye, or when it comes back as another incarnation.
//
// Thread safety: none; pure values, time comes in.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cluster/cluster_messages.h"
#include "cluster/workers/heartbeat_jitter.h"

namespace longhaul {

constexpr std::string_view kWorkerRows = "workers";  // see RowChangedEffect

enum class WorkerState { kReady, kUnreachable, kLost };
std::string_view to_string(WorkerState state);

struct WorkerOptions {
  milliseconds heartbeat_interval{1000};
  int missed_heartbeats = 3;          // then it is UNREACHABLE
  milliseconds lease{5000};           // of silence; then it is LOST
  milliseconds most_margin{5000};     // that irregular heartbeats may add to both
  milliseconds return_grace{30'000};  // after a master's restart, for workers to dial again
  size_t keep_lost = 100;             // lost workers shown to people
  // One that has been lost for so long is forgotten, and that it was drained with it.
  milliseconds forget_lost_after{milliseconds(7LL * 24 * 3600 * 1000)};
};

struct WorkerRecord {
  WorkerId id;
  WorkerRegistration registration;
  WorkerState state = WorkerState::kReady;
  std::optional<SessionId> session;  // absent: its stream is broken
  Instant last_heard;
  uint64_t unix_ms_last_heard = 0;
  std::string why_lost;
  Instant lost_at;  // while it is LOST
  HeartbeatJitter jitter;
  bool drained = false;  // by an operator; kept by the id, whoever registers under it

  // Ranks and tasks may be placed here.
  bool takes_work() const { return state == WorkerState::kReady && session && !drained; }
};

class WorkerTable {
 public:
  explicit WorkerTable(WorkerOptions options) : options_(options) {}
  WorkerTable(WorkerTable&&) = default;
  WorkerTable& operator=(WorkerTable&&) = default;

  struct Registration {
    WorkerId id;
    std::optional<SessionId> replaced;  // the worker's own older stream: close it
    std::optional<WorkerId> restarted;  // an older incarnation of this id, LOST from now on
    bool continued = false;             // this incarnation was here before
    bool returned_from_lost = false;    // its lease ran out before: nothing of it counts any more
    std::string refused;                // not empty: not taken, and why
  };
  // The same incarnation continues under its id, on a new stream. Another incarnation takes over
  // the id of a silent worker; while the other one is there it gets a suffix ("gpu-a-2").
  Registration register_worker(SessionId session, const WorkerRegistration& registration, Now now);

  // False: there is no such worker.
  bool drain(const WorkerId& id, bool drained);
  // False: there is no such worker, or it is not LOST.
  bool forget(const WorkerId& id);

  // A worker that an earlier life of this master knew: UNREACHABLE until it dials again, LOST when
  // it has not within return_grace.
  void restore(WorkerRecord worker, Now now);

  // All of them are LOST. Returns those that were not.
  std::vector<WorkerId> lose_all(const std::string& why, Now now);

  // Anything that came on the stream counts as a sign of life. Returns true when that made it
  // READY.
  bool heard(SessionId session, Now now);
  // The same for a heartbeat, whose regularity tells how much silence means something.
  bool heartbeat(SessionId session, Now now);

  // The stream broke, or (`goodbye`) was ended by the worker, which is LOST then.
  void session_closed(SessionId session, bool goodbye, Now now);

  // Moves silent workers on to UNREACHABLE and LOST, and forgets those that have been lost for too
  // long or are more than keep_lost. Returns all that changed; find() does not know those that were
  // forgotten.
  std::vector<WorkerId> sweep(Instant now);
  std::optional<Instant> next_deadline() const;
  // The master could not listen for `gap`: nobody is silent for that.
  void forgive_silence(milliseconds gap);

  const WorkerRecord* find(const WorkerId& id) const;
  const WorkerRecord* by_session(SessionId session) const;
  const std::map<WorkerId, WorkerRecord>& all() const { return workers_; }
  const WorkerOptions& options() const { return options_; }

  // When a silent worker's lease runs out, should it stay silent. nullopt: it is heard, or LOST.
  std::optional<Instant> lease_ends(const WorkerRecord& worker, Instant now) const;

 private:
  WorkerRecord* session_owner(SessionId session);
  milliseconds unreachable_after(const WorkerRecord& worker) const;
  milliseconds lost_after(const WorkerRecord& worker) const;
  WorkerId free_id(const WorkerRegistration& registration) const;
  using Workers = std::map<WorkerId, WorkerRecord>;
  Workers::iterator erase(Workers::iterator worker);
  void forget_long_lost(Instant now, std::vector<WorkerId>& forgotten);
  void forget_oldest_lost(std::vector<WorkerId>& forgotten);
  static void lose(WorkerRecord& worker, std::string why, Instant now);

  WorkerOptions options_;
  Workers workers_;
  std::unordered_map<SessionId, WorkerRecord*>
      by_session_;  // nodes of workers_ stay where they are
};

}  // namespace longhaul

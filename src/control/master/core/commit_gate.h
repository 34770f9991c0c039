// What may not be told before it is on disk. What has happened is collected as rows to write and as
// effects, answers and calls that stand on them; seal() makes one batch of the rows, and what
// belongs to it is carried out once the database says that it is durable. Batches after it need not
// wait to be formed, only to be told.
//
// Bounded: while the disk takes nothing no batch is formed, and what is alike is held once: rows
// that change again are one, of statuses the latest, of the journal as many events as it keeps.
// Without a database everything is carried out at once, and nothing outlives this object.
//
// Thread safety: the owner thread's, but for trouble() and on_broken().
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/owner.h"
#include "cluster/cluster_state.h"
#include "control/database/database.h"
#include "control/master/core/event_journal.h"
#include "longhaul/base/clock.h"
#include "longhaul/v1/event.pb.h"
#include "longhaul/v1/job.pb.h"

namespace longhaul {

class CommitGate {
 public:
  // What is done once a batch is durable.
  struct Held {
    struct Done {
      std::function<void(bool)> call;
      bool soon = false;  // told at once when the disk takes nothing
    };
    struct Status {
      v1::JobStatus status;
      bool ended = false;
    };
    std::vector<Effect> effects;
    std::map<SessionId, std::vector<uint64_t>> beats;  // answers to heartbeats: their sequences
    std::map<JobId, Status> statuses;                  // the latest of each
    std::vector<Done> done;

    void add(Held later);
    void forget(SessionId session);
  };
  // Called on the owner thread with what has become durable. It does all of that but `done`, which
  // the gate calls itself.
  using CarryOut = std::function<void(const Held&)>;
  // Has the owner thread run a task. False: it takes none any more.
  using Post = std::function<bool(std::function<void()>)>;

  // `database` may be null.
  CommitGate(const Owner& owner, const Clock& clock, std::unique_ptr<Database> database,
             EventJournal* journal, size_t keep_events, Post post, CarryOut carry_out);

  // --- What is to be written

  // Made a row when the batch is sealed.
  void row_changed(RowChangedEffect row, const ClusterState& state);
  // For rows that the cluster's state does not know: inputs, results, files that were swept.
  DatabaseBatch& batch();
  // Into the journal, which readers see once it is durable.
  void happened(ClusterEvent event);

  // --- What is held until it is

  void hold(Effect effect);
  void hold_beat(SessionId session, uint64_t sequence);
  void hold_status(const JobId& job, Held::Status status);
  void when_durable(std::function<void(bool durable)> done);
  // For whoever would rather hear soon that the disk takes nothing: then with false.
  void when_durable_soon(std::function<void(bool durable)> done);
  // The session is gone: nobody is there to be told.
  void forget(SessionId session);

  // --- Batches

  // When what has happened is worth writing and publishing: at once, but for large gangs. The row
  // and the status of one cost its number of ranks, so what happens to it is written together.
  Instant worth_writing_at() const;
  // Whether a batch is to be formed now. With `ends`, when the master ends, also while the disk
  // takes nothing.
  bool may_seal(bool ends) const;
  // Hands the batch to the database, or carries it out when there is nothing to wait for. False in
  // `written`: something that the batch stands on, and that is not here, could not be written.
  void seal(ClusterState& state, bool written);
  // Whoever asked to hear soon hears that the disk takes nothing.
  void tell_impatient();
  // The disk takes nothing and the master ends: whoever waits is told so, now and from now on.
  void give_up();
  bool gave_up() const { return gave_up_; }
  // After the owner thread has ended: the database writes what it has, and what is held is told.
  void close();

  std::optional<Failure> trouble() const {
    return database_ == nullptr ? std::nullopt : database_->trouble();
  }
  void on_broken(const std::function<void(const Failure&)>& callback) {
    if (database_ != nullptr) database_->on_broken(callback);
  }

 private:
  void seal_events();
  void seal_marks(const ClusterState& state);
  void durable();
  void carry_out(const Held& held, bool durable);

  const Owner& owner_;
  const Clock& clock_;
  std::unique_ptr<Database> database_;
  EventJournal* const journal_;
  const size_t keep_events_;
  const Post post_;
  const CarryOut carry_out_;

  DatabaseBatch batch_;                      // of what has happened since seal()
  std::set<RowChangedEffect> changed_rows_;  // likewise: their rows are made there
  size_t dirty_ranks_ = 0;                   // in the jobs among them
  std::vector<v1::Event> new_events_;
  Held held_;
  // The database reports batches in the order of write(), so the front is the one that durable()
  // speaks of.
  std::deque<Held> in_flight_;  // one for each batch that the database has
  Instant sealed_at_;
  const int64_t host_start_;
  Instant marked_at_;  // when the database last heard where the clock stands
  bool gave_up_ = false;
  size_t durable_after_close_ = 0;  // the database's thread's, then close()'s
};

}  // namespace longhaul

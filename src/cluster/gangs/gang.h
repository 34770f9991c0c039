// A gang: all ranks of one world at once, on as many workers as it takes. They are placed together,
// prepared together, launched, watched until the first one fails (failure/failure.h says whose
// fault that was), stopped together, and formed again as the next generation where that is allowed.
// Its ranks meet in a rendezvous store and share the shards of datasets.
//
// Thread safety: none.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "cluster/jobs/work.h"
#include "cluster/shards/shard_book.h"
#include "cluster/store/rendezvous_store.h"

namespace longhaul {

class Gang final : public Work {
 public:
  using Work::Work;

  // Where a rank runs, or ran.
  struct WhereRank {
    LaunchId launch;
    std::optional<SessionId> session;  // absent: it was not started yet, or its worker is away
    bool over = false;                 // it will not run any more, or the job will not
  };
  WhereRank where(Rank rank) const;
  // Whether this rank runs on this worker in this attempt, or has.
  bool is_of(Rank rank, const WorkerId& worker) const;
  const ShardBook& shards() const { return shards_; }
  // What has changed since this was last asked.
  ShardRows take_shard_rows() { return shards_.take_rows(); }
  StoreRows take_store_rows();

  std::string size() const override;
  std::optional<WaitingJob> waiting(Now now) const override;
  RunningJob running(Now now) const override;
  int slots_held() const override;
  std::set<WorkerId> holders() const override;
  void granted(const JobStart& start, Now now) override;
  bool runs(const WorkerId& worker) const override;
  bool may_have_run(const WorkerId& worker) const override;
  bool holds(const WorkerId& worker) const override { return held_by_.contains(worker); }
  Heard heard(SessionId session, const WorkerRecord& worker, const FromWorker& message,
              Now now) override;
  void session_closed(SessionId session) override { store_.drop_session(session); }
  void worker_lost(const WorkerId& worker, const std::string& why, bool preempted,
                   Now now) override;
  void worker_back(const WorkerRecord& worker, Now now) override;
  void review(Now now) override;
  void postpone(milliseconds gap) override;

 protected:
  void restore(ClusterMemory& memory, Now now) override;
  void act(JobAction action, Now now) override;
  void tell_to_stop(Now now) override;
  void send_stops() override;
  void account_for_silent(Now now) override;
  bool all_accounted() const override;
  bool may_restart() const override;
  void let_go() override;
  std::string success() const override { return "every rank exited with code 0"; }
  void report() override;
  bool starting_took_too_long(Now now) override;
  void tick(Now now) override;
  std::optional<Instant> wakeup() const override;
  void add_facts(ExplainFacts* facts) const override;

 private:
  // gang.cc: from its place to its launch, and again.
  void take_slots();
  void give_slots_back();
  void prepare_all(Now now);
  void prepare(const WorkerId& worker);
  void launch_all(Now now);
  void send_launch(size_t share);
  void form_again(Now now);
  milliseconds restart_delay() const;
  void look_for_missing(Now now);
  bool may_review(Now now);
  std::vector<WorkerEvidence> worker_evidence(Now now) const;

  // gang_ranks.cc: what its ranks and their workers say.
  Heard on(SessionId session, const WorkerRecord& worker, const PreparedMessage& message, Now now);
  Heard on(SessionId session, const WorkerRecord& worker, const RankEventMessage& message, Now now);
  Heard on(SessionId session, const WorkerRecord& worker, const StoreCallMessage& message, Now now);
  Heard on(SessionId session, const WorkerRecord& worker, const ShardCallMessage& message, Now now);
  void on(RankRecord& rank, const RankSpawned& change, Now now);
  void on(RankRecord& rank, const RankJoined& change, Now now);
  void on(RankRecord& rank, const RankProgress& change, Now now);
  void on(RankRecord& rank, const RankFault& change, Now now);
  void on(RankRecord& rank, const RankLeft& change, Now now);
  void on(RankRecord& rank, const RankLook& change, Now now);
  void on(RankRecord& rank, const RankExit& change, Now now);
  void lose_rank(RankRecord& rank, Now now);
  void look_for_hang(Now now);
  void moved(Now now);
  void drop_store();
  void release_shards(Rank rank);
  void release_all_shards();
  void restore_shards(const std::map<std::string, ShardMemory>& datasets, Now now);

  bool holds_slots_ = false;              // its shares are counted in Site::use
  std::unordered_set<WorkerId> held_by_;  // workers of its shares, as long as it holds slots
  std::map<WorkerId, PreparedMessage> prepared_;  // until the launch: the answers so far
  std::map<WorkerId, Instant> missing_since_;     // reconnected, does not list this launch
  RendezvousStore store_;
  bool store_dropped_ = false;  // its rows on disk are to be dropped before new ones are written
  ShardBook shards_;
  std::optional<Instant> decide_at_;  // who failed is to be decided then
  std::optional<Instant> look_at_;    // whether it hangs is to be looked at then; set while it runs
  // When all of its ranks were last looked at, and when they are to be again.
  Instant reviewed_at_;
  std::optional<Instant> review_at_;
  size_t said_bytes_ = 0;  // by ranks of this attempt: faults, last lines
};

}  // namespace longhaul

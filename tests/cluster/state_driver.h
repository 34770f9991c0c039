// A ClusterState with its clock and the messages that it sent, so that a test reads as a story.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "cluster/cluster_state.h"

namespace longhaul::testing {

class StateDriver {
 public:
  explicit StateDriver(const ClusterOptions& options = {},
                       const WorkKinds& kinds = standard_kinds())
      : state(options, kinds), options_(options), kinds_(kinds) {}
  // As a new one, in its place.
  void begin_again(const ClusterOptions& options) {
    options_ = options;
    std::destroy_at(&state);
    std::construct_at(&state, options_, kinds_);
  }

  Now now() const {
    return {Instant(milliseconds(1'000'000 + ms_)),
            static_cast<uint64_t>(1'700'000'000'000 + wall_step_ms_ + ms_)};
  }
  // Somebody sets the wall clock.
  void step_wall_clock(int64_t ms) { wall_step_ms_ += ms; }
  // Time passes; the workers on `beating` sessions send heartbeats meanwhile.
  void pass(int64_t ms, const std::vector<SessionId>& beating = {}) {
    for (int64_t done = 0; done < ms;) {
      const int64_t step = std::min<int64_t>(ms - done, 500);
      ms_ += step;
      done += step;
      for (const SessionId session : beating) state.heartbeat(session, ++beats_, now());
      state.tick(now());
      collect();
    }
  }

  SessionId connect(const std::string& id, int slots, const std::string& incarnation = "",
                    std::vector<LaunchId> inventory = {}, std::vector<HeldLease> leases = {},
                    int gpus = 0, uint64_t memory_bytes = 0) {
    const SessionId session = ++sessions_;
    state.register_worker(session,
                          {id, incarnation.empty() ? id + "-1" : incarnation, "host-" + id,
                           "10.0.0." + std::to_string(session), slots, 1, "0.1.0",
                           std::move(inventory), std::move(leases), gpus, memory_bytes},
                          now());
    collect();
    return session;
  }
  void disconnect(SessionId session, bool goodbye = false) {
    state.session_closed(session, goodbye, now());
    collect();
  }

  Result<JobId> submit(int ranks, bool fail_when_full = false, const std::string& key = "") {
    JobSpec spec;
    spec.command = {"./train"};
    spec.ranks = ranks;
    spec.fail_when_full = fail_when_full;
    spec.wait_for_nodes = true;
    Result<JobId> id = state.submit(spec, key, now());
    collect();
    return id;
  }
  Result<JobId> submit(JobSpec spec) {
    if (spec.command.empty()) spec.command = {"./train"};
    Result<JobId> id = state.submit(spec, "", now());
    collect();
    return id;
  }
  void stop(const JobId& job, bool force = false) {
    EXPECT_TRUE(state.stop(job, milliseconds(0), force, now()));
    collect();
  }

  void prepared(SessionId session, const JobId& job, const std::string& error = "") {
    const PreparedMessage message{LaunchId{job, this->job(job).generation}, error, 29'500};
    state.prepared(session, message, now());
    collect();
  }
  void says(SessionId session, const JobId& job, Rank rank, RankChange change,
            Generation generation = 1) {
    const RankEventMessage message{LaunchId{job, generation}, rank, std::move(change)};
    state.rank_event(session, message, now());
    collect();
  }
  void exits(SessionId session, const JobId& job, Rank rank, int code, int signal = 0,
             bool by_us = false, Generation generation = 1) {
    says(session, job, rank,
         RankExit{signal != 0 ? 128 + signal : code, signal, by_us, "", {"last words"}, ""},
         generation);
  }
  // Whether it is taken.
  bool prints(SessionId session, const LaunchId& launch, Rank rank) {
    const bool taken = state.rank_output(session, launch, rank, now());
    collect();
    return taken;
  }
  std::optional<CommitOutcome> task_ends(SessionId session, const LaunchId& launch,
                                         const Lease& lease, int code) {
    const auto outcomes = state.tasks_ended(
        session, {TaskEndedMessage{launch, lease, {code, 0, false, "", {}, ""}, ""}}, now());
    collect();
    return outcomes.empty() ? std::nullopt : std::optional(outcomes.front());
  }
  void store(SessionId session, uint64_t call, const JobId& job, Rank rank, StoreCommand command) {
    const StoreCallMessage message{call, LaunchId{job, 1}, rank, std::move(command)};
    state.store_call(session, message, now());
    collect();
  }

  void shards(SessionId session, uint64_t call, const JobId& job, Rank rank, ShardExchange exchange,
              Generation generation = 1) {
    state.shard_call(session, {call, LaunchId{job, generation}, rank, std::move(exchange)}, now());
    collect();
  }

  // The master is killed and started again on what was durable; every stream breaks, what was sent
  // and not taken is lost.
  void restart_master(const std::string& new_life = "") {
    expect_all_is_durable();
    restart_on_what_was_kept(new_life);
    expect_all_is_durable();
  }
  // Another life of the state, on what was kept or on nothing.
  void begin_new_life(const std::string& why = "put back from a copy") { restart_master(why); }
  void wipe_state() {
    jobs_.clear();
    tasks_.clear();
    workers_.clear();
    stores_.clear();
    shards_.clear();
    plans_.clear();
    boot_ = 0;
    restart_on_what_was_kept("wiped");
  }
  uint64_t life() const { return life_; }

  void restart_on_what_was_kept(const std::string& new_life = "") {
    ClusterMemory memory;
    for (const auto& [id, job] : jobs_) memory.jobs.push_back(job);
    for (const auto& [id, worker] : workers_) memory.workers.push_back(worker);
    memory.stores = stores_;
    for (const auto& [id, datasets] : shards_) {
      for (const auto& [name, plan] : plans_[id]) memory.shards[id][name].plan = plan;
      for (const auto& [name, rows] : datasets) {
        for (const auto& [task, row] : rows) memory.shards[id][name].rows.push_back(row);
      }
    }
    memory.boot = ++boot_;
    if (!new_life.empty()) ++life_;
    memory.life = life_;
    memory.new_life = new_life;
    for (const auto& [id, rows] : tasks_) {
      for (const auto& [task, row] : rows) memory.tasks[id].push_back(row);
    }
    std::sort(memory.jobs.begin(), memory.jobs.end(),
              [](const JobRecord& a, const JobRecord& b) { return a.number < b.number; });
    begin_again(options_);
    state.restore(std::move(memory), now());
    sent_.clear();
    closed_.clear();
    collect();
  }
  // For tests that damage what was kept.
  std::map<JobId, JobRecord>& kept_jobs() { return jobs_; }

  // What is told as durable is what the state holds: nothing changed in silence.
  void expect_all_is_durable() const {
    for (const JobStatus* status : state.list(true)) {
      const JobRecord& now = *state.record(status->id);
      ASSERT_TRUE(jobs_.contains(status->id)) << status->id;
      const JobRecord& kept = jobs_.at(status->id);
      EXPECT_EQ(kept.status.state, status->state) << status->id;
      EXPECT_EQ(kept.status.reason, status->reason) << status->id;
      EXPECT_EQ(kept.status.exit_code, status->exit_code) << status->id;
      EXPECT_EQ(kept.shares, now.shares) << status->id;
      EXPECT_EQ(kept.launched, now.launched) << status->id;
      EXPECT_EQ(kept.killed, now.killed) << status->id;
      EXPECT_EQ(kept.stop_reason, now.stop_reason) << status->id;
      EXPECT_EQ(kept.verdict.has_value(), now.verdict.has_value()) << status->id;
      EXPECT_EQ(kept.lost_workers.size(), now.lost_workers.size()) << status->id;
      ASSERT_EQ(kept.status.ranks.size(), status->ranks.size()) << status->id;
      for (size_t rank = 0; rank < status->ranks.size(); ++rank) {
        const RankRecord& ours = kept.status.ranks[rank];
        const RankRecord& theirs = status->ranks[rank];
        EXPECT_EQ(ours.state, theirs.state) << status->id << " rank " << rank;
        EXPECT_EQ(ours.worker, theirs.worker) << status->id << " rank " << rank;
        EXPECT_EQ(ours.exit_order, theirs.exit_order) << status->id << " rank " << rank;
        EXPECT_EQ(ours.fault_order, theirs.fault_order) << status->id << " rank " << rank;
        EXPECT_EQ(ours.left, theirs.left) << status->id << " rank " << rank;
      }
    }
    EXPECT_EQ(jobs_.size(), state.list(true).size());
  }

  const JobStatus& job(const JobId& id) const { return *state.status(id); }

  // The messages of one kind that a session has been sent and that were not taken yet.
  template <typename Message>
  std::vector<Message> take(SessionId session) {
    std::vector<Message> taken;
    std::vector<ToWorker> rest;
    for (ToWorker& message : sent_[session]) {
      if (auto* one = std::get_if<Message>(&message)) {
        taken.push_back(std::move(*one));
      } else {
        rest.push_back(std::move(message));
      }
    }
    sent_[session] = std::move(rest);
    return taken;
  }
  bool closed(SessionId session) const {
    return std::find(closed_.begin(), closed_.end(), session) != closed_.end();
  }

  ClusterState state;

 private:
  void collect() {
    for (Effect& effect : state.take_effects()) {
      if (auto* send = std::get_if<SendEffect>(&effect)) {
        sent_[send->session].push_back(std::move(send->message));
      } else if (const auto* close = std::get_if<CloseEffect>(&effect)) {
        closed_.push_back(close->session);
      } else {
        keep(effect);
      }
    }
  }

  // As the master's database.
  void keep(const Effect& effect) {
    const auto* row = std::get_if<RowChangedEffect>(&effect);
    if (row == nullptr) return;
    if (row->noun == kJobRows) return keep_job(row->key);
    if (row->noun == kWorkerRows) return keep_worker(row->key);
    if (row->noun == kTaskRows) {
      for (TaskRecord& task : state.take_task_rows(row->key)) tasks_[row->key][task.task] = task;
    } else if (row->noun == kShardRows) {
      ShardRows rows = state.take_shard_rows(row->key);
      plans_[row->key].merge(rows.plans);
      for (auto& [name, changed] : rows.shards) {
        for (TaskRecord& shard : changed) shards_[row->key][name][shard.task] = shard;
      }
    } else if (row->noun == kStoreRows) {
      keep_store(row->key);
    } else {
      ADD_FAILURE() << "nobody keeps rows of " << row->noun;
    }
  }
  void keep_worker(const WorkerId& id) {
    workers_.erase(id);
    const WorkerRecord* record = state.worker(id);
    if (record != nullptr) workers_[id] = *record;
  }
  void keep_store(const JobId& id) {
    StoreRows rows = state.take_store_rows(id);
    if (rows.dropped) stores_.erase(id);
    for (const StoreChange& change : rows.changes) {
      if (change.value) {
        stores_[id][change.key] = *change.value;
      } else {
        stores_[id].erase(change.key);
      }
    }
  }
  void keep_job(const JobId& id) {
    jobs_.erase(id);
    const JobRecord* record = state.record(id);
    if (record != nullptr) {
      jobs_[id] = *record;
    } else {
      tasks_.erase(id);
    }
  }

  ClusterOptions options_;
  WorkKinds kinds_;
  uint32_t boot_ = 1;
  std::map<JobId, std::map<TaskIndex, TaskRecord>> tasks_;
  std::map<JobId, std::map<std::string, ShardPlan>> plans_;
  std::map<JobId, std::map<std::string, std::map<TaskIndex, TaskRecord>>> shards_;
  std::map<JobId, JobRecord> jobs_;
  std::map<WorkerId, WorkerRecord> workers_;
  std::map<JobId, std::map<std::string, std::string>> stores_;

  int64_t ms_ = 0;
  int64_t wall_step_ms_ = 0;
  uint64_t life_ = 0;
  SessionId sessions_ = 0;
  uint64_t beats_ = 0;
  std::map<SessionId, std::vector<ToWorker>> sent_;
  std::vector<SessionId> closed_;
};

}  // namespace longhaul::testing

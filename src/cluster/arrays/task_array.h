// An array: many tasks that need nothing of each other. They are a TaskTable; here it meets workers
// and slots: so many tasks as the job's batch says go to one slot, and the slot is free again when
// the last of them has ended. It takes any slot that is free, has no generations, and ends when its
// tasks have, or when too many of them fail in a row.
//
// Thread safety: none.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "cluster/arrays/array_spec.h"
#include "cluster/arrays/task_table.h"
#include "cluster/jobs/work.h"

namespace longhaul {

class TaskArray final : public Work {
 public:
  using Work::Work;

  const TaskTable& tasks() const { return *tasks_; }
  // What has changed since this was last asked.
  std::vector<TaskRecord> take_task_rows() { return tasks_->take_changes(); }
  // What the user calls it.
  uint64_t called(TaskIndex task) const;
  // The task that its user calls so. Errors: kInvalid (there is none).
  Result<TaskIndex> task_called(uint64_t called) const;

  std::string size() const override;
  std::optional<WaitingJob> waiting(Now now) const override;
  RunningJob running(Now now) const override;
  int slots_held() const override { return static_cast<int>(batches_.size()); }
  std::set<WorkerId> holders() const override;
  bool takes_single_slots() const override { return true; }
  void granted(const JobStart& start, Now now) override;
  // Workers list the launches of gangs only, and speak of an array by its leases: see task_ended()
  // and worker_back().
  bool runs(const WorkerId&) const override { return true; }
  bool may_have_run(const WorkerId&) const override { return false; }
  bool holds(const WorkerId&) const override { return false; }
  CommitOutcome task_ended(const TaskEndedMessage& message, Now now) override;
  void tasks_have_ended(Now now) override;
  void input_missing(const Lease& lease, const Failure& why, Now now) override;
  void worker_lost(const WorkerId& worker, const std::string& why, bool preempted,
                   Now now) override;
  void worker_back(const WorkerRecord& worker, Now now) override;
  void review(Now now) override;

 protected:
  void make() override;
  void restore(ClusterMemory& memory, Now now) override;
  void act(JobAction, Now) override {}
  void tell_to_stop(Now now) override;
  void send_stops() override;
  void account_for_silent(Now now) override;
  bool all_accounted() const override { return batches_.empty() && awaited_.empty(); }
  void let_go() override { count_tasks(); }
  std::string success() const override { return "every task is done"; }
  void report() override;
  void tick(Now now) override;
  std::optional<Instant> wakeup() const override { return tasks_->next_wakeup(); }
  void nobody_was_told() override { close_all_leases(); }

 private:
  // Tasks that share a slot.
  struct Batch {
    LeaseHolder holder;
    size_t open = 0;        // leases that have not ended
    std::vector<int> gpus;  // the slot's
  };
  using Batches = std::map<LeaseEpoch, Batch>;

  void count_tasks();
  void tasks_changed(bool urgent);
  void grant_tasks(const WorkerRecord& worker, int slots, Now now);
  void hold_batch(const LeaseHolder& holder, LeaseEpoch id, const TaskBatch& tasks);
  void drop_batch(const Batch& batch);
  Batches::iterator forget_batch(Batches::iterator batch);
  void close_lease(LeaseEpoch epoch);
  void close_all_leases();
  std::string why_given_up(TaskIndex given_up) const;

  std::optional<TaskTable> tasks_;    // from make() on
  std::optional<ArraySpec> indices_;  // what they are called, unless by their places
  Batches batches_;
  // Of a job that was being stopped when the master was started: workers that may hold some of it.
  std::set<WorkerId> awaited_;
  std::unordered_map<LeaseEpoch, LeaseEpoch> batch_of_;  // of a lease that has not ended: its batch
  std::string last_fault_;
  bool some_task_ran_ = false;  // as far as this life of the master has seen
  int start_code_ = 0;          // of the last one that could not be started
};

}  // namespace longhaul

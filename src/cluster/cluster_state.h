// The whole state of a master as one value: workers, jobs, slots, verdicts. It knows jobs by their
// names and asks who starts; what a job does is its kind's (jobs/work.h). Each method is something
// that happened; what must be done about it is collected as effects (cluster_messages.h),
// which the caller takes and carries out. No I/O, no threads, no clock of its own, so that whole
// cluster lives are tested in microseconds. What must outlive the master is told by effects too
// (cluster_messages.h); restore() brings it back.
//
// Thread safety: none; control/master/core/core.h gives it one owner thread.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/cluster_memory.h"
#include "cluster/cluster_messages.h"
#include "cluster/gangs/gang.h"
#include "cluster/kinds.h"
#include "cluster/scheduling/explain.h"
#include "cluster/site.h"

namespace longhaul {

struct NodeStatus {
  WorkerRecord worker;
  Resources used;
  std::vector<JobId> jobs;
};

class ClusterState {
 public:
  explicit ClusterState(ClusterOptions options, WorkKinds kinds = standard_kinds())
      : site_(std::move(options)), kinds_(std::move(kinds)) {}
  // Not copied or moved: its jobs have references to site_.
  ClusterState(const ClusterState&) = delete;
  ClusterState& operator=(const ClusterState&) = delete;

  // Call before anything else. Workers that were not LOST count as UNREACHABLE until they dial
  // again; the launches and leases that they then say they hold decide what becomes of ranks and
  // tasks.
  void restore(ClusterMemory memory, Now now);
  // What is to be made durable of a job; nullptr: it is forgotten.
  const JobRecord* record(const JobId& id) const;
  const WorkerRecord* worker(const WorkerId& id) const { return site_.workers.find(id); }
  uint64_t life() const { return site_.life; }
  // Rows of an array's tasks that have changed since this was last asked.
  std::vector<TaskRecord> take_task_rows(const JobId& id);
  // Of the datasets of a gang, likewise.
  ShardRows take_shard_rows(const JobId& id);
  // Of the rendezvous store of a job, likewise.
  StoreRows take_store_rows(const JobId& id);
  // nullptr: no such job.
  const ShardBook* shards(const JobId& id) const;
  // nullptr: no such job, or a gang.
  const TaskTable* tasks(const JobId& id) const;
  // The same for a launch of this life.
  const TaskTable* tasks(const LaunchId& launch) const;
  // A task of an array as its user calls it: its index, or its place where inputs have no indices.
  // Precondition: tasks(id) has it.
  uint64_t called(const JobId& id, TaskIndex task) const;
  // Where a rank of a gang runs, or ran. Of another job: nowhere.
  using WhereRank = Gang::WhereRank;
  // Precondition: status(id) is there.
  WhereRank where(const JobId& id, Rank rank) const;
  // The place of the task that its user calls so. Errors: kInvalid (the job is a gang, or has
  // none).
  Result<TaskIndex> task_called(const JobId& id, uint64_t called) const;

  // What users ask. `job_name` is an id, a name (its newest job), a unique prefix of an id, or
  // "last".

  // Same key, same job. Errors: kInvalid (a bad spec, the name of a job that has not ended, more
  // than all workers together have, unless it asked to wait for others).
  Result<JobId> submit(const JobSpec& spec, const std::string& submission_key, Now now);
  // `grace` 0: the job's own. Stopping a job that has ended changes nothing. `by` is kept, and
  // whoever looks at the job or the journal is told.
  Result<JobId> stop(const std::string& job_name, milliseconds grace, bool force, Now now,
                     const StopOrigin& by = {});
  Result<JobId> find(const std::string& job_name) const;
  // The same for a caller who knows of which life the job is that he means; 0: he does not. Errors:
  // also kStale (it is another job).
  Result<JobId> find(const std::string& job_name, uint64_t life) const;
  const JobStatus* status(const JobId& id) const;
  // In order of submission; those after the job `after`, whether it is still kept or not, or all.
  std::vector<const JobStatus*> list(bool include_ended, const JobId& after = "") const;
  std::vector<NodeStatus> nodes() const;
  // Why it waits, or what its state means. `id` is that of a job.
  Explanation explain(const JobId& id, Now now) const;
  // A drained worker gets no new ranks or tasks; what it runs goes on. It stays drained, whatever
  // becomes of it, until that is undone. Errors: kInvalid (no such worker).
  Result<void> drain(const WorkerId& id, bool drained, Now now);
  // A worker that is LOST is not known any more, nor that it was drained. Errors: kInvalid (no such
  // worker, or it is not lost).
  Result<void> forget_worker(const WorkerId& id);
  // The master ends: every job is stopped as by a user.
  void stop_all(const std::string& reason, Now now);
  bool has_active_jobs() const;
  // Somebody's time runs, and is to be kept for whoever comes after this master.
  bool counts_time() const;

  // What workers say.

  void register_worker(SessionId session, const WorkerRegistration& registration, Now now);
  void session_closed(SessionId session, bool goodbye, Now now);
  void heartbeat(SessionId session, uint64_t sequence, Now now);
  void prepared(SessionId session, const PreparedMessage& message, Now now);
  void rank_event(SessionId session, const RankEventMessage& message, Now now);
  void store_call(SessionId session, const StoreCallMessage& message, Now now);
  void shard_call(SessionId session, const ShardCallMessage& message, Now now);
  // One outcome for each. kCommitted: the result that came along is the task's, and is to be made
  // durable together with the task's row. None at all: of a worker that is not heard any more.
  std::vector<CommitOutcome> tasks_ended(SessionId session,
                                         const std::vector<TaskEndedMessage>& messages, Now now);
  // The input of a task that was granted cannot be had, so the grant has not gone out. kCorrupt:
  // nor ever will be, and the attempt has failed; else the lease is given back, and the job's tasks
  // wait for a moment.
  void input_missing(const LaunchId& launch, const Lease& lease, const Failure& why, Now now);
  // Whether output of this rank may come from this stream; also a sign of life. Output decides
  // nothing, so it is taken late, too: of an older generation, of a job that has ended, of a worker
  // that is LOST.
  bool rank_output(SessionId session, const LaunchId& launch, Rank rank, Now now);

  // Time passes. Call at next_wakeup(), or more often.
  void tick(Now now);
  std::optional<Instant> next_wakeup() const;
  // The master itself slept for `gap`: the workers' silence in that time was not theirs.
  void forgive_silence(milliseconds gap) { site_.workers.forgive_silence(gap); }
  // For `gap` nobody could be told anything, because the disk took nothing: what others were to do
  // meanwhile gets as much longer.
  void postpone(milliseconds gap);
  // The worker on this stream lives, though it may have nothing to say.
  void sign_of_life(SessionId session, Now now) { heard(session, now); }
  // A job whose submission was refused after all, because it could not be written down: it ends,
  // and its key may be used again.
  void withdraw(const JobId& id, const std::string& reason, Now now);
  // Whether submit() would answer this key with a job that is there already.
  bool knows_submission(const std::string& key) const;

  // What is to be done about all that has happened since the last call. A message among them may
  // leave only when the rows that changed with it are on disk: else a master that is killed in
  // between would have promised what the next one does not know.
  std::vector<Effect> take_effects() { return std::exchange(site_.effects, {}); }

 private:
  // cluster_state.cc: jobs as users see them.
  Work* find_work(const JobId& id) const;
  // Of the launch that runs now.
  Work* work_of(const LaunchId& launch) const;
  const WorkKind& kind_of(const JobSpec& spec) const;
  std::optional<Failure> why_name_is_taken(const std::string& name) const;
  Work& add(JobRecord record);
  void free_key_of(const Work& work);
  void forget_old_jobs();
  void end_earlier_life(const std::string& why, Now now);

  // cluster_scheduling.cc: who starts, and what of each worker is in use.
  void schedule(Now now);
  void schedule_soon(Now now);
  PlacementInput placement_input(Now now) const;
  std::optional<Failure> why_it_never_fits(const JobSpec& spec, Now now) const;
  std::vector<WorkerRoom> rooms() const;
  Resources free_of(const WorkerRecord& worker) const;
  Resources used_of(const WorkerId& id) const;
  void refill(const WorkerId& id, Now now);

  // cluster_workers.cc: streams and silence, and what is said on them.
  void worker_lost(const WorkerId& id, const std::string& why, Now now, bool preempted = false);
  bool heard(SessionId session, Now now, bool is_heartbeat = false);
  void hear(SessionId session, const LaunchId& launch, const FromWorker& message, Now now);
  void refuse(SessionId session, const FromWorker& message);
  bool runs(const WorkerId& worker, const LaunchId& launch) const;
  bool may_have_run(const WorkerId& worker, const LaunchId& launch) const;
  Failure no_such_worker(const WorkerId& id) const;

  Site site_;
  WorkKinds kinds_;
  // Owns the jobs. The queues below point into it: a job leaves them when it ends, and jobs_ long
  // after that (forget_old_jobs()).
  std::map<JobId, std::unique_ptr<Work>> jobs_;
  std::vector<JobId> submitted_;         // in order; those kept
  std::map<QueuePlace, Work*> active_;   // those that have not ended
  std::map<QueuePlace, Work*> fillers_;  // those among them that take single slots
  std::map<std::string, JobId> by_key_;
  uint64_t last_job_ = 0;
  Instant scheduled_at_;
};

}  // namespace longhaul

// The whole state of a master as one value: workers, jobs, slots, verdicts. Each method is
// something that happened; what must be done about it is collected as effects (cluster_messages.h),
// which the caller takes and carries out. No I/O, no threads, no clock of its own, so that whole
// cluster lives are tested in microseconds. What must outlive the master is told by effects too
// (cluster_messages.h); restore() brings it back.
//
// Thread safety: none; control/master/core/core.h gives it one owner thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cluster/arrays/array_spec.h"
#include "cluster/cluster_messages.h"
#include "cluster/failure/failure.h"
#include "cluster/jobs/job_record.h"
#include "cluster/jobs/job_table.h"
#include "cluster/scheduling/explain.h"
#include "cluster/scheduling/placement_policy.h"
#include "cluster/scheduling/worker_use.h"
#include "cluster/workers/worker_table.h"
#include "longhaul/base/strings.h"

namespace longhaul {

struct ClusterOptions {
  WorkerOptions workers;
  FailureOptions failure;
  milliseconds grace{5000};              // from SIGTERM to SIGKILL, where a job says nothing
  milliseconds prepare_timeout{30'000};  // a worker that is there answers much sooner
  milliseconds stop_margin{10'000};  // beyond the grace; then SIGKILL, then the ranks count as lost
  milliseconds inventory_grace{
      2000};  // a reconnected worker that misses a launch may still report it
  // Between the end of an attempt and the next: the first one soon, then longer each time.
  milliseconds restart_delay{200};
  milliseconds max_restart_delay{60'000};
  // So many attempts in a row that came no further than one before them, and the job is given up.
  int max_attempts_without_progress = 5;
  // The same for an array: so many attempts in a row of which none succeeded.
  uint32_t stall_after = 50;
  // A gang of which nothing has moved for so long is said to hang (hang.h).
  milliseconds hang_after{30'000};
  size_t keep_ended_jobs = 200;
  PlacementPolicy policy = plan_with_backfill;
  // What was lost this recently may come back: a job that would fit with it is not refused.
  milliseconds lost_may_return{600'000};
};

struct NodeStatus {
  WorkerRecord worker;
  Resources used;
  std::vector<JobId> jobs;
};

// A dataset of a job, as it was made durable.
struct ShardMemory {
  ShardPlan plan;
  std::vector<TaskRecord> rows;
};

// What an earlier life of this master knew.
struct ClusterMemory {
  uint32_t boot = 1;  // of this master, greater than that of any before on this state
  uint64_t life = 0;  // of the state, random: another one when it was wiped or put back from a copy
  // Not empty: the life has begun with this start, and why. Nothing that ran in the one before
  // counts any more.
  std::string new_life;
  uint64_t last_job = 0;
  std::vector<JobRecord> jobs;  // by number
  std::map<JobId, std::vector<TaskRecord>> tasks;
  std::map<JobId, std::map<std::string, std::string>> stores;
  std::map<JobId, std::map<std::string, ShardMemory>> shards;  // by dataset
  std::vector<WorkerRecord> workers;
};

class ClusterState {
 public:
  explicit ClusterState(ClusterOptions options)
      : options_(std::move(options)), workers_(options_.workers) {}

  // Before anything else happens. Workers count as UNREACHABLE until they dial again; what they
  // bring along decides on the ranks.
  void restore(ClusterMemory memory, Now now);
  // What is to be made durable of a job; nullptr: it is forgotten.
  const JobRecord* record(const JobId& id) const;
  const WorkerRecord* worker(const WorkerId& id) const { return workers_.find(id); }
  uint64_t life() const { return life_; }
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
  uint64_t called(const JobId& id, TaskIndex task) const { return jobs_.at(id).called(task); }
  // Where a rank runs, or ran.
  struct WhereRank {
    LaunchId launch;
    std::optional<SessionId> session;  // absent: it was not started yet, or its worker is away
    bool over = false;                 // it will not run any more, or the job will not
  };
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
  void forgive_silence(milliseconds gap) { workers_.forgive_silence(gap); }
  // For `gap` nobody could be told anything, because the disk took nothing: what others were to do
  // meanwhile gets as much longer.
  void postpone(milliseconds gap);
  // The worker on this stream lives, though it may have nothing to say.
  void sign_of_life(SessionId session, Now now) { heard(session, now); }
  // A job whose submission was refused after all, because it could not be written down: it ends,
  // and its key may be used again.
  void withdraw(const JobId& id, const std::string& reason, Now now);

  std::vector<Effect> take_effects() { return std::exchange(effects_, {}); }

 private:
  // Tasks that share a slot.
  struct Batch {
    LeaseHolder holder;
    size_t open = 0;        // leases that have not ended
    std::vector<int> gpus;  // the slot's
  };
  // Higher priorities first, then in order of submission.
  using QueuePlace = std::pair<int, uint64_t>;

  struct Job : JobRecord {
    std::optional<TaskTable> tasks;    // of an array
    std::optional<ArraySpec> indices;  // what they are called, unless by their places
    std::map<LeaseEpoch, Batch> batches;
    std::unordered_map<LeaseEpoch, LeaseEpoch> batch_of;
    std::string last_fault;
    bool some_task_ran = false;  // as far as this master has seen
    int start_code = 0;          // of the last one that could not be started
    bool holds_slots = false;    // its shares do
    std::map<WorkerId, PreparedMessage> prepared;
    RendezvousStore store;
    bool store_dropped = false;  // its rows are to go
    ShardBook shards;
    std::map<WorkerId, Instant> missing_since;  // reconnected, does not list this launch
    std::optional<Instant> decide_at;
    std::optional<Instant> give_up_at;     // on preparing, or on ranks being stopped
    std::optional<Instant> retry_at;       // not to be placed before
    std::optional<Instant> time_is_up;     // its time limit
    std::optional<Instant> look_at;        // whether it hangs; set while it runs
    std::unordered_set<WorkerId> held_by;  // workers of its shares, as long as it holds slots
    // When all of its ranks were last looked at, and when they are to be again.
    Instant reviewed_at;
    size_t said_bytes = 0;  // by ranks of this attempt: faults, last lines
    std::optional<Instant> review_at;

    uint64_t life_now = 0;  // of the state: that of its launches

    // What the user calls it.
    uint64_t called(TaskIndex task) const;
    LaunchId launch() const { return {status.id, status.generation, life_now}; }
    QueuePlace place() const { return {-status.spec.priority, number}; }
  };

  // cluster_state.cc: jobs as users see them.
  std::optional<Failure> why_name_is_taken(const std::string& name) const;
  Job* job_of(const LaunchId& launch);
  void forget_old_jobs();
  void restore_job(JobRecord record, ClusterMemory& memory, Now now);
  void set_aside(Job& job, Now now);
  void end_earlier_life(const std::string& why, Now now);

  // cluster_placement.cc: who starts, and what of each worker is in use.
  void schedule(Now now);
  void schedule_soon(Now now);
  PlacementInput placement_input(Now now) const;
  std::optional<WaitingJob> waiting(const Job& job, Now now) const;
  std::optional<RunningJob> running(const Job& job, Now now) const;
  std::optional<Instant> ends_at_the_latest(const Job& job, Now now) const;
  void start(Job& job, const JobStart& start, Now now);
  void wait(Job& job, const std::string& reason, uint64_t expected_start);
  std::optional<Failure> why_it_never_fits(const JobSpec& spec, Now now) const;
  std::vector<WorkerRoom> rooms() const;
  Resources free_of(const WorkerRecord& worker) const;
  Resources used_of(const WorkerId& id) const;
  void take_slots(Job& job);
  void give_slots_back(Job& job);
  static int slots_held(const Job& job);

  // cluster_workers.cc: streams and silence.
  void worker_lost(const WorkerId& id, const std::string& why, Now now, bool preempted = false);
  void resume(const WorkerRecord& worker, Now now);
  bool heard(SessionId session, Now now, bool is_heartbeat = false);
  Job* job_on(SessionId session, const LaunchId& launch, const WorkerRecord** worker);
  bool runs(const WorkerId& worker, const LaunchId& launch) const;
  bool may_have_run(const WorkerId& worker, const LaunchId& launch) const;
  Failure no_such_worker(const WorkerId& id) const;

  // cluster_arrays.cc: tasks of arrays.
  void make_tasks(Job& job);
  void restore_tasks(Job& job, const std::vector<TaskRecord>& rows, Now now);
  void count_tasks(Job& job);
  void tasks_changed(Job& job, bool urgent);
  void grant_tasks(Job& job, const WorkerRecord& worker, int slots, Now now);
  void hold_batch(Job& job, const LeaseHolder& holder, LeaseEpoch id, const TaskBatch& tasks);
  void drop_batch(const Job& job, const Batch& batch);
  CommitOutcome end_task(Job& job, const TaskEndedMessage& message, Now now);
  void close_lease(Job& job, LeaseEpoch epoch);
  void refill(const WorkerId& id, Now now);
  void review_array(Job& job, Now now);
  void lose_leases(Job& job, const WorkerId& id, const std::string& why, Now now);
  void resume_tasks(Job& job, const WorkerRecord& worker);

  // cluster_shards.cc: index ranges of datasets.
  void restore_shards(Job& job, const std::map<std::string, ShardMemory>& datasets, Now now);
  void release_shards(Job& job, Rank rank);
  void release_shards(Job& job);

  // cluster_jobs.cc: a job's way through its table.
  bool advance(Job& job, JobEvent event, Now now);
  void prepare(Job& job, const WorkerId& worker);
  void launch(Job& job, Now now);
  void send_launch(Job& job, size_t share);
  void stop_ranks(Job& job, Now now);
  void send_stop(Job& job, const WorkerId& worker);
  void end(Job& job, JobState state, Now now);
  bool may_restart(const Job& job) const;
  void form_again(Job& job, Now now);
  void start_clock(Job& job, Now now);
  milliseconds restart_delay(const Job& job) const;
  void fail(Job& job, Verdict verdict, Now now);
  void review(Job& job, Now now);
  bool may_review(Job& job, Now now);
  void review_stopping(Job& job, Now now);
  void expire(Job& job, Now now);
  std::vector<WorkerEvidence> worker_evidence(const Job& job, Now now) const;
  void apply(Job& job, RankRecord& rank, const RankChange& change, Now now);
  void rank_joined(Job& job, RankRecord& rank, Now now);
  void rank_exited(Job& job, RankRecord& rank, RankExit exit, Now now);
  void look_for_hang(Job& job, Now now);
  void moved(Job& job, Now now);
  void lose_rank(RankRecord& rank, Now now);
  void report(Job& job);
  bool all_accounted(const Job& job) const;

  void send(const WorkerId& worker, ToWorker message);
  void answer(const std::vector<StoreReply>& replies);
  void drop_store(Job& job);
  // What is urgent is also what a restarted master must know.
  void changed(const Job& job, bool urgent = true) {
    effects_.emplace_back(JobChangedEffect{job.status.id, urgent});
    if (urgent) row_changed(kJobRows, job.status.id);
  }
  void row_changed(std::string_view noun, const std::string& key) {
    effects_.emplace_back(RowChangedEffect{noun, key});
  }
  // For the journal.
  void happened(EventKind kind, const Job& job, std::string text);
  void happened(EventKind kind, const WorkerId& worker, std::string text);
  template <typename... Args>
  void note(const Args&... args) {
    effects_.emplace_back(NoteEffect{str_cat(args...)});
  }

  ClusterOptions options_;
  WorkerTable workers_;
  std::map<JobId, Job> jobs_;
  std::vector<JobId> submitted_;               // in order; those kept
  std::map<QueuePlace, JobId> active_;         // those that have not ended
  std::map<QueuePlace, JobId> active_arrays_;  // the arrays among them
  std::unordered_map<WorkerId, WorkerUse> use_;
  std::optional<QueuePlace> reserved_;  // of the gang that the others have to spare
  Instant scheduled_at_;
  std::optional<Instant> schedule_at_;  // again
  LeaseEpochs epochs_{1};
  uint64_t life_ = 0;
  std::map<std::string, JobId> by_key_;
  std::vector<Effect> effects_;
  uint64_t last_job_ = 0;
  uint64_t order_ = 0;  // of everything that is evidence
};

}  // namespace longhaul

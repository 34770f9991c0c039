// One job, as its kind runs it. What all kinds share is here: the record, its way through the table
// of states (job_table.h), stopping, the time limit, the report. What differs a kind says: what it
// wants, what it makes of what it is granted, and of what workers say. gangs/gang.h and
// arrays/array.h are the two that there are; kinds.h lists them, and a further one is a folder
// beside them.
//
// The caller has made sure that the job has not ended, unless a method says otherwise.
//
// Thread safety: none.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/cluster_memory.h"
#include "cluster/jobs/job_record.h"
#include "cluster/jobs/job_table.h"
#include "cluster/scheduling/explain.h"
#include "cluster/scheduling/placement_policy.h"
#include "cluster/site.h"

namespace longhaul {

class Work {
 public:
  Work(Site& site, JobRecord record);
  virtual ~Work() = default;
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  const JobRecord& record() const { return job_; }
  const JobStatus& status() const { return job_.status; }
  const JobSpec& spec() const { return job_.status.spec; }
  const JobId& id() const { return job_.status.id; }
  JobState state() const { return job_.status.state; }
  bool ended() const { return has_ended(job_.status.state); }
  LaunchId launch() const { return {id(), job_.status.generation, site_.life}; }
  QueuePlace place() const { return {-spec().priority, job_.number}; }

  // --- What happens to every job

  // It has been accepted, and nothing else has happened to it.
  void begin();
  // It is as an earlier life of the master left it.
  void take_up(ClusterMemory& memory, Now now);
  // There is no room, and it was asked not to wait.
  void give_up_waiting(Now now);
  // It waits for this, and starts at `expected_start` at the latest (0: nobody knows).
  void wait(const std::string& reason, uint64_t expected_start);
  void stop(const StopOrigin& by, milliseconds grace, bool force, Now now);
  // The same for a master that ends.
  void stop(const std::string& reason, milliseconds grace, Now now);
  // It was refused after all; nobody has been told of it.
  void withdraw(const std::string& reason, Now now);
  // For `gap` nobody could be told anything.
  virtual void postpone(milliseconds gap);
  // What time alone brings about.
  void expire(Now now);
  // When expire() has something to do next.
  std::optional<Instant> next_wakeup() const;
  // If it runs, or starts now.
  std::optional<Instant> ends_at_the_latest(Now now) const;
  void explain(ExplainFacts* facts, Now now) const;
  // Called once, when it has ended; by then the state says so, and nothing has been given back yet.
  void on_end(std::function<void()> call) { on_end_ = std::move(call); }
  std::optional<Instant> not_before() const { return retry_at_; }

  // --- What its kind says of it

  // "4 ranks", "100 tasks".
  virtual std::string size() const = 0;
  // What it would start if there were room; nullopt: nothing now. A kind fills in what
  // waiting_job() does not know.
  virtual std::optional<WaitingJob> waiting(Now now) const = 0;
  // What it has, by workers. A job that ends soon and by parts says so (RunningJob::tasks).
  virtual RunningJob running(Now now) const = 0;
  virtual int slots_held() const = 0;
  // Workers that have something of it, or may have.
  virtual std::set<WorkerId> holders() const = 0;
  // The room that it was promised: shares of a gang, or slots of workers.
  virtual void granted(const JobStart& start, Now now) = 0;
  // It takes any slot that becomes free, one by one: granted() with slots, at any time.
  virtual bool takes_single_slots() const { return false; }
  // What this worker says of this launch counts.
  virtual bool runs(const WorkerId& worker) const = 0;
  // Output of this attempt may come from this worker.
  virtual bool may_have_run(const WorkerId& worker) const = 0;

  // --- What workers say

  // This worker has some of it, and may speak of it.
  virtual bool holds(const WorkerId& worker) const = 0;
  enum class Heard { kNotMine, kTaken, kRoomFreed };
  // Said on `session` by a worker that holds() some of it. kNotMine: it knows nothing of such a
  // thing, and whoever waits for an answer is told that the launch is over. kRoomFreed: others may
  // start now.
  virtual Heard heard(SessionId, const WorkerRecord&, const FromWorker&, Now) {
    return Heard::kNotMine;
  }
  // A task has ended; kUnknown: it has none. tasks_have_ended() follows once after several.
  virtual CommitOutcome task_ended(const TaskEndedMessage&, Now) { return CommitOutcome::kUnknown; }
  virtual void tasks_have_ended(Now) {}
  virtual void input_missing(const Lease&, const Failure&, Now) {}
  // Some worker's stream is gone: whoever waited on it for an answer cannot get one.
  virtual void session_closed(SessionId) {}
  // The worker will not come back with what it had.
  virtual void worker_lost(const WorkerId& worker, const std::string& why, bool preempted,
                           Now now) = 0;
  // It has registered: what it has, and may have missed.
  virtual void worker_back(const WorkerRecord& worker, Now now) = 0;
  // Looks at everything that is known, and moves the job on if that is enough. May be called for a
  // job that has ended.
  virtual void review(Now now) = 0;

 protected:
  // --- What a kind does with its job

  bool advance(JobEvent event, Now now);
  void fail(Verdict verdict, Now now);
  // Somebody should hear of it; what is urgent is also what a restarted master must know.
  void changed(bool urgent = true);
  void happened(EventKind kind, std::string text);
  template <typename... Args>
  void note(const Args&... args) {
    site_.note("job ", id(), args...);
  }
  // The time limit counts from the first start of the job, across its attempts and by a monotonic
  // clock. Calling it again changes nothing.
  void start_clock(Now now);
  // Of a job that is being stopped: moves it on if all that it had is gone.
  void review_stopping(Now now);
  void send_stop(const WorkerId& worker);
  // Beyond what a kind says: who it is, and when it would have ended.
  WaitingJob waiting_job(Now now) const;
  std::optional<Instant> earliest(std::optional<Instant> a, std::optional<Instant> b) const {
    return !a ? b : !b ? a : std::min(*a, *b);
  }

  // --- What a kind says when it is asked by its job

  // Right after it was submitted, and when it is taken up.
  virtual void make() {}
  virtual void restore(ClusterMemory& memory, Now now) = 0;
  // An action of the table that is this kind's alone.
  virtual void act(JobAction action, Now now) = 0;
  // It is being stopped: nothing of it goes on, and send_stops().
  virtual void tell_to_stop(Now now) = 0;
  // To every worker that has some of it.
  virtual void send_stops() = 0;
  // The grace is over, and so is what comes after SIGKILL: what has not been heard of is gone.
  virtual void account_for_silent(Now now) = 0;
  virtual bool all_accounted() const = 0;
  virtual bool may_restart() const { return false; }
  // Before the report of its end is made.
  virtual void let_go() = 0;
  virtual std::string success() const = 0;
  // Fills in status.failure from the verdict.
  virtual void report() = 0;
  // It is still starting, and that took too long. Returns whether it has failed of that.
  virtual bool starting_took_too_long(Now) { return false; }
  virtual void tick(Now now) = 0;
  virtual std::optional<Instant> wakeup() const = 0;
  virtual void add_facts(ExplainFacts*) const {}
  // Its submission was refused after all: nothing of it is anywhere.
  virtual void nobody_was_told() {}

  Site& site_;
  JobRecord job_;
  std::optional<Instant> give_up_at_;  // on preparing, or on what is being stopped
  std::optional<Instant> retry_at_;    // not to be placed before
  std::optional<Instant> time_is_up_;  // its time limit

 private:
  void stop_all(Now now);
  void end(JobState state, Now now);

  std::function<void()> on_end_;
};

}  // namespace longhaul

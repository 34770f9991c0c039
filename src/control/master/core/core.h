// The master's owner thread: the one place where ClusterState is touched. gRPC's threads post what
// they heard; what follows from it is carried out here without ever waiting for a peer.
//
// With a database nothing leaves before what it stands on is on disk: the tasks that came together
// make one batch of rows, and their effects and answers are held until the database says that the
// batch is durable. Batches after it need not wait to be formed, only to be told. While the disk
// takes nothing none is formed: rows that change again become one, and what is held for a watcher
// is the latest.
//
// Thread safety: post(), trouble(), stop_jobs(), close_sessions(), give_up_writing() and close()
// from any thread; the rest only inside a posted task.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/queue.h"
#include "base/thread.h"
#include "cluster/cluster_state.h"
#include "control/database/database.h"
#include "control/master/core/event_journal.h"
#include "control/master/feeds/input_relay.h"
#include "control/master/feeds/job_feed.h"
#include "control/master/results/result_intake.h"
#include "control/master/results/task_inputs.h"
#include "longhaul/base/clock.h"
#include "longhaul/v1/worker_service.pb.h"
#include "rpc/on_arena.h"

namespace longhaul {

// All that an earlier life of this master left in its database.
struct MasterMemory {
  ClusterMemory cluster;
  std::map<uint64_t, uint64_t> input_sets;  // by the number of the job
  std::vector<v1::Event> events;            // in order
  std::vector<std::string> unreadable;      // rows that were left out, for people
  std::vector<uint64_t> dropped;            // forgotten jobs that may have left files
  milliseconds clock_shift{0};              // of all moments in `cluster` (clock_mark.h)
};

using OutgoingMessage = std::unique_ptr<OnArena<v1::MasterMessage>>;

// A worker's stream as the owner thread sees it. No method blocks.
class SessionSink {
 public:
  virtual ~SessionSink() = default;
  virtual void send(OutgoingMessage message) = 0;
  // Ends the stream: after what was sent before when `drain`, else at once.
  virtual void close(const std::string& reason, bool drain) = 0;
};

class Core {
 public:
  struct Options {
    ClusterOptions cluster;
    std::string state_folder;   // of the database; empty: none
    std::string output_folder;  // empty: output is kept in memory only
    size_t output_bytes_per_job = size_t{16} << 20;
    size_t output_bytes_of_ended_jobs = size_t{256} << 20;
    size_t keep_events = 10'000;
  };

  // `database` may be null: then nothing outlives this object. `memory` is what it held.
  Core(const Options& options, const Clock& clock, std::string incarnation,
       std::unique_ptr<Database> database, MasterMemory memory);
  ~Core();

  using Task = std::function<void(ClusterState& state, Now now)>;
  // False, and the task is dropped, when the master is closing.
  bool post(Task task) { return tasks_.push(std::move(task)); }

  // Refuses new jobs, stops those there are and waits until all have ended, or until `limit` has
  // passed. Returns whether they have.
  bool stop_jobs(const std::string& reason, milliseconds limit);
  void close_sessions();
  // Why nothing can be made durable at the moment (kExhausted), or ever again; nullopt when all is
  // well.
  std::optional<Failure> trouble() const;
  // Called once, should nothing be written ever again.
  void on_broken(const std::function<void(const Failure&)>& callback);
  // Why this master must not run: the files beside its database cannot be looked at.
  const std::optional<Failure>& start_failure() const { return start_failure_; }
  // Before the end: when the disk takes nothing, whoever waits for it is told so, now and from now
  // on.
  void give_up_writing();
  // Runs what was posted, then ends the thread.
  void close();
  // What happened, as far as it is durable. May be read from any thread.
  EventJournal& journal() { return journal_; }

  // Inside a task:

  // Calls back on the owner thread: with true once all that has happened so far is on disk, with
  // false when it will not be.
  void when_durable(std::function<void(bool durable)> done);
  // The same for whoever would rather hear soon that the disk takes nothing: then with false.
  void when_durable_soon(std::function<void(bool durable)> done);
  SessionId add_session(std::shared_ptr<SessionSink> session);
  void remove_session(SessionId session);
  std::shared_ptr<JobFeed> feed(const JobId& job);
  void output(ClusterState& state, SessionId session, const v1::RankOutput& output, Now now);
  // Bytes for rank 0 of a gang; see v1::WriteInputRequest. Precondition: the job is there.
  void write_input(const JobId& job, const v1::WriteInputRequest& request,
                   InputRelay::Answer answer, Now now);
  void input_taken(const v1::InputTaken& taken);
  bool takes_jobs() const { return !stopping_; }
  // What the tasks of a job that was just submitted are about.
  void add_inputs(const JobId& job, const ArrayJobSpec& array,
                  const std::vector<std::string>& inputs);
  bool has_inputs(const JobId& job) const { return inputs_.contains(job); }
  // For another thread, which reads them with an InputReader of its own once all that has happened
  // so far is on disk.
  std::optional<TaskInputs> inputs_of(const JobId& job) const;
  // The same for inputs that come in chunks: rows of a new set, which then becomes a job's, or is
  // dropped.
  uint64_t new_input_set() { return ++last_input_set_; }
  void stage_inputs(InputRow row) { batch_.of<InputsTable>().inputs.push_back(std::move(row)); }
  void drop_staged(uint64_t set) { batch_.of<InputsTable>().dropped.push_back(set); }
  void add_stored_inputs(const JobId& job, const ArrayJobSpec& array, uint64_t set);
  // Takes the results out of `ended`.
  void tasks_ended(ClusterState& state, SessionId session, v1::TasksEnded* ended, Now now);
  ResultIntake& results() { return results_; }
  const std::string& state_folder() const { return options_.state_folder; }

 private:
  struct Session {
    std::shared_ptr<SessionSink> sink;
    bool registered = false;                    // and told so
    std::map<LaunchId, uint64_t> output_bytes;  // taken on this stream
  };

  // What is done once a batch is durable. What is alike is held once, however long that takes.
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

  void run();
  Now now() const;
  Instant next_wakeup() const;
  // When what has happened is worth writing and publishing: at once, but for large gangs.
  Instant worth_writing_at() const;
  // Into the journal.
  void happened(ClusterEvent event);
  // Sorts what has happened into what is written and what is held.
  void collect();
  // Hands the batch to the database, or carries it out when there is nothing to wait for. It waits
  // for output that came before and found the disk full.
  void seal();
  void row_changed(RowChangedEffect row);
  bool write_output();
  void keep_output(const JobId& job, const v1::Output& piece);
  // What a task wrote to stderr is kept with its job's output.
  void keep_said(const TaskEndedMessage& message, const v1::TaskEnded& ended, Now now);
  void acknowledge_output(SessionId session, const LaunchId& launch, uint64_t bytes);
  void seal_events();
  void seal_marks();
  void seal_all_moments();
  void durable();
  void carry_out(const Held& held, bool durable);
  void answer_tasks(const Held& held);
  // A grant takes along what `answers` has for its worker.
  void perform(const Effect& effect, std::map<SessionId, v1::TaskAnswers>* answers);
  void fill_inputs(v1::GrantTasks& grant);
  void sweep_files(const std::vector<uint64_t>& dropped);
  std::string log_path(const JobId& job) const;
  // While the disk takes nothing.
  void bear_trouble(Now now);
  static void tell_impatient(Held& held);
  void reassure(Now now);
  void publish(bool all);
  void trim_ended_output();

  const Options options_;
  const Clock& clock_;
  const std::string incarnation_;
  Queue<Task> tasks_;
  std::unique_ptr<Database> database_;
  EventJournal journal_;

  // The owner thread's.
  ClusterState state_;
  std::map<SessionId, Session> sessions_;
  SessionId last_session_ = 0;
  JobFeed::LongWrites long_writes_;
  std::map<JobId, std::shared_ptr<JobFeed>> feeds_;
  std::map<JobId, bool> changed_;  // -> urgent
  std::map<JobId, TaskInputs> inputs_;
  InputReader input_reader_;
  uint64_t last_input_set_;
  ResultIntake results_;
  InputRelay input_relay_;
  Instant published_at_;
  Instant trimmed_at_;
  const int64_t host_start_;
  Instant marked_at_;         // when the database last heard where the clock stands
  bool late_output_ = false;  // has come, of a job that has ended
  DatabaseBatch batch_;       // of what has happened since seal()
  std::vector<v1::Event> new_events_;
  std::set<RowChangedEffect> changed_rows_;  // since seal(), too: their rows are made there
  size_t dirty_ranks_ = 0;                   // in the jobs among them
  Instant sealed_at_;
  bool writes_later_ = false;
  Held held_;
  std::deque<Held> in_flight_;  // one for each batch that the database has
  std::set<JobId> unwritten_;   // jobs with output that found the disk full
  std::atomic<bool> output_waits_ = false;
  std::optional<Instant> trouble_at_;  // when it was last borne
  Instant reassured_at_;
  std::optional<Failure> start_failure_;
  bool gave_up_ = false;
  size_t durable_after_close_ = 0;  // the database's thread's, then close()'s
  bool stopping_ = false;
  std::function<void()> when_stopped_;

  Thread output_thread_;  // does long_writes_
  Thread thread_;         // last: it starts when all else is there
};

}  // namespace longhaul

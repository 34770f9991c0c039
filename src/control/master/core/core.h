// The master's owner thread: the one place where ClusterState is touched. gRPC's threads post what
// they heard; what follows from it is carried out here without ever waiting for a peer.
//
// With a database nothing leaves before what it stands on is on disk: effects go through the commit
// gate (commit_gate.h) to the workers' streams (sessions.h) and to those who follow a job
// (output_store.h).
//
// Thread safety: post(), trouble(), on_broken(), stop_jobs(), close_sessions(), give_up_writing(),
// close() and journal() from any thread; the rest only inside a posted task.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/owner.h"
#include "base/queue.h"
#include "base/thread.h"
#include "cluster/cluster_state.h"
#include "control/database/database.h"
#include "control/master/core/commit_gate.h"
#include "control/master/core/event_journal.h"
#include "control/master/core/input_store.h"
#include "control/master/core/output_store.h"
#include "control/master/core/sessions.h"
#include "control/master/feeds/input_relay.h"
#include "control/master/results/result_intake.h"
#include "longhaul/base/clock.h"

namespace longhaul {

// All that an earlier life of this master left in its database.
struct MasterMemory {
  ClusterMemory cluster;
  InputsTable::Kept input_sets;
  std::vector<v1::Event> events;        // in order
  std::vector<std::string> unreadable;  // rows that were left out, for people
  DroppedTable::Kept dropped;           // forgotten jobs that may have left files
  milliseconds clock_shift{0};          // of all moments in `cluster` (clock_mark.h)
};

class Core {
 public:
  struct Options {
    ClusterOptions cluster;
    std::string state_folder;  // of the database; empty: none
    OutputStore::Options output;
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
  void on_broken(const std::function<void(const Failure&)>& callback) { gate_.on_broken(callback); }
  // Why this master must not run: the files beside its database cannot be looked at.
  const std::optional<Failure>& start_failure() const { return start_failure_; }
  // Before the end: when the disk takes nothing, whoever waits for it is told so, now and from now
  // on.
  void give_up_writing();
  // Runs what was posted, then ends the thread.
  void close();
  // What happened, as far as it is durable.
  EventJournal& journal() { return journal_; }

  // Inside a task:

  // Calls back on the owner thread: with true once all that has happened so far is on disk, with
  // false when it will not be.
  void when_durable(std::function<void(bool durable)> done) { gate_.when_durable(std::move(done)); }
  // The same for whoever would rather hear soon that the disk takes nothing: then with false.
  void when_durable_soon(std::function<void(bool durable)> done) {
    gate_.when_durable_soon(std::move(done));
  }
  SessionId add_session(std::shared_ptr<SessionSink> sink) {
    return sessions_.add(std::move(sink));
  }
  void remove_session(SessionId session);
  std::shared_ptr<JobFeed> feed(const JobId& job) { return output_.feed(job); }
  void output(ClusterState& state, SessionId session, const v1::RankOutput& output, Now now);
  // Bytes for rank 0 of a gang; see v1::WriteInputRequest. Precondition: the job is there.
  void write_input(const JobId& job, const v1::WriteInputRequest& request,
                   InputRelay::Answer answer, Now now);
  void input_taken(const v1::InputTaken& taken);
  bool takes_jobs() const {
    owner_.assert_owner();
    return !stopping_;
  }
  // What the tasks of a job that was just submitted are about.
  void add_inputs(const JobId& job, const ArrayJobSpec& array,
                  const std::vector<std::string>& inputs) {
    inputs_.add(job, array, inputs, &gate_.batch());
  }
  bool has_inputs(const JobId& job) const { return inputs_.has(job); }
  // For another thread, which reads them with an InputReader of its own once all that has happened
  // so far is on disk.
  std::optional<TaskInputs> inputs_of(const JobId& job) const { return inputs_.of(job); }
  // The same for inputs that come in chunks: rows of a new set, which then becomes a job's, or is
  // dropped.
  uint64_t new_input_set() { return inputs_.new_set(); }
  void stage_inputs(InputRow row) {
    gate_.batch().of<InputsTable>().inputs.push_back(std::move(row));
  }
  void drop_staged(uint64_t set) { gate_.batch().of<InputsTable>().dropped.push_back(set); }
  void add_stored_inputs(const JobId& job, const ArrayJobSpec& array, uint64_t set) {
    inputs_.add_stored(job, array, set, &gate_.batch());
  }
  // Takes the results out of `ended`.
  void tasks_ended(ClusterState& state, SessionId session, v1::TasksEnded* ended, Now now);
  ResultIntake& results() { return results_; }
  const std::string& state_folder() const { return options_.state_folder; }

 private:
  void run();
  Now now() const;
  Instant next_wakeup() const;
  // Sorts what has happened into what is written and what is held.
  void collect();
  void seal();
  // Does what was held for a batch, now that its rows are on disk.
  void carry_out(const CommitGate::Held& held);
  void answer_tasks(const CommitGate::Held& held);
  // A grant takes along what `answers` has for its worker.
  void perform(const SendEffect& send, std::map<SessionId, v1::TaskAnswers>* answers);
  void forget_job(const JobId& job);
  void fill_inputs(v1::GrantTasks& grant);
  // What a task wrote to stderr is kept with its job's output.
  void keep_said(const TaskEndedMessage& message, const v1::TaskEnded& ended, Now now);
  void acknowledge_output(SessionId session, const LaunchId& launch, uint64_t bytes);
  void all_moments_changed();
  void sweep_files(const std::vector<uint64_t>& dropped);
  // What is done while the disk takes nothing, each time round.
  void bear_trouble(Now now);
  void publish(bool all);

  const Options options_;
  const Clock& clock_;
  const std::string incarnation_;
  Queue<Task> tasks_;
  EventJournal journal_;

  // The owner thread's: lh-master's, while run() runs.
  Owner owner_;
  ClusterState state_;
  Sessions sessions_;
  OutputStore output_;
  InputStore inputs_;
  ResultIntake results_;
  InputRelay input_relay_;
  CommitGate gate_;
  std::map<JobId, bool> changed_;  // to be published -> urgent
  Instant published_at_;
  // When free memory was last given back to the host.
  Instant trimmed_at_;
  // What has happened waits for gate_.worth_writing_at().
  bool writes_later_ = false;
  std::optional<Instant> trouble_at_;  // when it was last borne
  // When workers last heard that the master lives, while the disk took nothing.
  Instant reassured_at_;
  std::optional<Failure> start_failure_;
  bool stopping_ = false;
  // Called once when no job is active any more: stop_jobs() waits for it.
  std::function<void()> when_stopped_;

  Thread thread_;  // last: it starts when all else is there
};

}  // namespace longhaul

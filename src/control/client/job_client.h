// Talks to a master: submit jobs, watch them, stop them. The `longhaul` command line is one user of
// it.
//
//   JobClient client("127.0.0.1:7700");
//   JobSpec spec;
//   spec.command = {"/opt/char_gpt"};
//   spec.ranks = 4;
//   Result<JobId> job = client.submit(spec);
//   if (!job) return job.failure();
//   std::unique_ptr<JobWatch> watch = client.watch(*job, {});
//   while (std::optional<WatchEvent> event = watch->next()) { ... }
//
// Errors of every call: kUnavailable (nobody listens at the address, or the connection broke),
// kDeadline (the master does not answer), kInvalid (the master refused: no such job, a bad spec),
// kExhausted (the master is there, but its disk is full: try later), kDenied (not allowed),
// kCorrupt (the master's database is damaged), kStale (a job of this id that this client has heard
// of before is not there any more: the master's state was wiped or put back from a backup, and
// another job has its number). Messages name the address.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cluster/event.h"
#include "cluster/jobs/job.h"
#include "cluster/scheduling/explain.h"
#include "cluster/workers/worker_table.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/result.h"
#include "rpc/credentials.h"

namespace longhaul {

// A piece of a rank's output; pieces of one (generation, rank, stream) are in order and `offset`
// counts its bytes. Of a task of an array it is the end of its stderr, in one piece: `rank` is its
// place in the array, `generation` its attempt.
struct OutputPiece {
  Rank rank = 0;
  bool is_stderr = false;
  uint64_t offset = 0;
  std::string data;
  Generation generation = 1;
  std::optional<uint64_t> task = std::nullopt;  // of a task: as its user calls it
};

// A worker, as the master tells about it.
struct NodeInfo {
  WorkerId id;
  std::string host;
  std::string address;
  WorkerState state = WorkerState::kReady;
  int slots = 0;
  int used_slots = 0;
  int64_t pid = 0;
  std::string version;
  uint64_t unix_ms_last_heard = 0;
  std::vector<JobId> jobs;
  int gpus = 0;
  int used_gpus = 0;
  uint64_t memory_bytes = 0;
  uint64_t used_memory_bytes = 0;
  bool drained = false;  // no new work is placed there

  // Nothing new comes and nothing runs any more.
  bool empty_for_good() const { return drained && used_slots == 0; }
};

struct InputTaken {
  uint64_t taken = 0;   // bytes of all stdin that have reached the rank's host: go on there
  bool closed = false;  // nothing more is taken: its end has come, or nobody reads it any more
};

struct WatchOptions {
  bool output = false;               // also the ranks' output
  bool from_start = true;            // with what the master has kept so far; else only what comes
  bool follow = true;                // until the job has ended; else only what is kept
  std::vector<Rank> only_ranks;      // empty: all
  std::vector<uint64_t> only_tasks;  // of an array, as its user calls them; empty: all
  Generation attempt = 0;            // output of this attempt only; 0: of all
  uint64_t since_unix_ms = 0;        // only lines that the master had in full at this time or later
};

// Output older than what the master keeps was left out.
struct OutputDropped {
  uint64_t bytes = 0;
};

// The master was lost, and why; or it is found again, and the watch goes on where it was.
struct LinkChanged {
  std::optional<Failure> lost;
};

// The last event of a watch: without a failure the job has ended (or all that is kept has been
// sent).
struct WatchEnded {
  std::optional<Failure> failure;
};

using WatchEvent = std::variant<JobStatus, OutputPiece, OutputDropped, LinkChanged, WatchEnded>;

// One running watch. A slow reader holds back the master's stream, not this process's memory.
// Thread safety: next() and next_until() from one thread; cancel() from any. Destruction cancels.
class JobWatch {
 public:
  virtual ~JobWatch() = default;
  // Waits for an event; nullopt after WatchEnded has been taken.
  virtual std::optional<WatchEvent> next() = 0;
  // As next(), but also nullopt when `deadline` passes first (then ended() is false).
  virtual std::optional<WatchEvent> next_until(Instant deadline) = 0;
  virtual bool ended() const = 0;
  virtual void cancel() = 0;
};

// What one task of an array gave.
struct TaskResult {
  uint64_t task = 0;  // as its user calls it: its index, or its place from 0 on
  uint32_t attempt = 0;
  std::string data;
  std::string damaged;  // not empty: it cannot be read, and why; `data` is not it
};

enum class TaskOutcome { kDone, kGivenUp, kCancelled };
std::string_view to_string(TaskOutcome outcome);

// Some of it; pieces of one result follow each other, and then comes the next one's.
struct ResultPiece {
  uint64_t task = 0;  // as its user calls it: its index, or its place from 0 on
  uint32_t attempt = 0;
  TaskOutcome outcome = TaskOutcome::kDone;  // others come with ResultOptions::all_ended alone
  std::string_view input;                    // what `{}` was, with ResultOptions::inputs
  std::string_view worker;                   // of the last attempt; empty: there was none
  std::optional<uint64_t> ran_ms;            // the last attempt's process; absent: not measured
  std::string_view error;                    // of the last attempt, where there is no result
  uint64_t size = 0;                         // bytes of the whole result
  uint64_t offset = 0;                       // of `data` in it
  std::string_view data;                     // valid during the callback
  bool last = false;                         // all of it has come and is whole; `data` is empty
  // Not empty: it cannot be read, and why; what came of it before is void. It is the last piece
  // then, and other results follow.
  std::string_view damaged{};
  std::string_view input_damaged{};  // not empty: the input cannot be read, and why
};

struct ResultOptions {
  std::optional<uint64_t> first_task;  // as its user calls it; absent: the first
  bool follow = false;       // until the job has ended; else what there is now without a gap
  bool all_ended = false;    // also tasks that ended without a result; result_pieces() only
  bool inputs = false;       // with each task's input; result_pieces() only
  bool only_failed = false;  // with all_ended: no task that has a result
};

struct EventOptions {
  std::string job;  // of this job only; empty: of all
  WorkerId worker;  // about this worker only; empty: all
  uint64_t since_unix_ms = 0;
  uint64_t after = 0;   // those that come after this number
  bool follow = false;  // go on with what comes; of one job, until it has ended
};

struct StopOptions {
  milliseconds grace{0};  // from SIGTERM to SIGKILL; 0: the job's own
  bool force = false;     // SIGKILL at once
  StopOrigin by;          // kept with the job; what is empty is filled in from this process
};

// How long calls wait. The rule for a master that goes away is one for all of them: where nobody
// has ever answered, a refused connection is an error at once; a master that has answered before is
// dialled again, calls are repeated within their time, and streams (watch, events, results) go on
// where they were.
struct ClientOptions {
  milliseconds call_timeout{10'000};  // of a call that asks one thing, with its repetitions
  milliseconds patience{0};           // for how long streams wait for a lost master; 0: not at all
  // A connection on which nothing has come for so long, although it was asked for, is dead. At
  // least 4 s.
  milliseconds silence{15'000};
  Credentials credentials = plain_text();
  // Called on the caller's thread by events() and results(): the master was lost, or (nullopt)
  // found again. A watch has LinkChanged.
  std::function<void(const std::optional<Failure>& lost)> on_link{};
};

// Thread safety: all methods may be called from any thread.
class JobClient {
 public:
  // `address` is HOST:PORT or unix:/path. Connects when first used.
  explicit JobClient(const std::string& address, ClientOptions options = {});
  ~JobClient();
  JobClient(const JobClient&) = delete;
  JobClient& operator=(const JobClient&) = delete;

  const std::string& address() const;

  // The same key submits the same job once, however often the call is repeated; empty: a fresh key.
  // `inputs`: one for each task of an array that has no indices.
  Result<JobId> submit(const JobSpec& spec, const std::string& submission_key = "",
                       const std::vector<std::string>& inputs = {});
  // An array whose tasks have inputs of their own, of any number: `next` is asked for one after the
  // other, on this thread, and says false when there are no more; array.tasks is counted here.
  // About 1 MiB of them is in memory at a time. Returns when all of them are on the master's disk.
  // Where `next` fails, nothing is submitted and its failure is returned.
  using NextInput = std::function<Result<bool>(std::string*)>;
  Result<JobId> submit_array(JobSpec spec, const NextInput& next,
                             const std::string& submission_key = "");
  // Without what a list has no room for: environments, the rest of a long command, what ranks said
  // when they failed, evidence, earlier failures. get() has all of it.
  Result<std::vector<JobStatus>> list(bool include_ended);
  // `job` is here and below an id, a unique prefix of one, a name (its newest job) or "last".
  Result<JobStatus> get(const std::string& job);
  Result<JobStatus> stop(const std::string& job, const StopOptions& options = {});
  // The next bytes of the stdin of rank 0, 256 KiB at most: `data` begins at byte `offset` of all
  // of it, and with `end` nothing comes after it. What is repeated is not given twice. Errors:
  // kInvalid (the job takes no input, see JobSpec::input).
  Result<InputTaken> write_input(const std::string& job, uint64_t offset, const std::string& data,
                                 bool end);
  // Why it waits, or what its state means; a reason is there always.
  Result<Explanation> explain(const std::string& job);
  Result<std::vector<NodeInfo>> nodes();
  // Without `drained` the worker takes new work again. What runs there goes on either way.
  Result<NodeInfo> drain(const WorkerId& worker, bool drained = true);
  // A worker that is lost is not listed any more, nor known as drained.
  Result<void> forget(const WorkerId& worker);
  // Calls back with each event in order, on this thread, until the callback returns false or there
  // is no more.
  Result<void> events(const EventOptions& options,
                      const std::function<bool(const ClusterEvent&)>& each);
  // As results(), in pieces of at most 128 KiB: for results larger than memory should hold.
  Result<void> result_pieces(const std::string& job, const ResultOptions& options,
                             const std::function<bool(const ResultPiece&)>& each);
  // Calls back with each result in task order, on this thread, until the callback returns false or
  // there is no more. One that cannot be read comes as such, and hides no other.
  Result<void> results(const std::string& job, const ResultOptions& options,
                       const std::function<bool(const TaskResult&)>& each);
  // Starts at once; failures arrive as WatchEnded.
  std::unique_ptr<JobWatch> watch(const std::string& job, const WatchOptions& options);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longhaul

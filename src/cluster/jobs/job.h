// A job as values: what a user asks for, what each rank is doing, who failed first. The control
// rooms turn them into proto/longhaul/v1/job.proto and back; every decision is made on these.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/arrays/task.h"
#include "cluster/failure/exit_evidence.h"
#include "cluster/failure/fault_budget.h"
#include "cluster/scheduling/placement.h"
#include "longhaul/agent/coordinator.h"
#include "longhaul/agent/ids.h"
#include "longhaul/base/clock.h"

namespace longhaul {

// When something happened: `instant` decides, `unix_ms` is for people.
struct Now {
  Instant instant;
  uint64_t unix_ms = 0;
};

// Many independent tasks instead of one gang.
struct ArrayJobSpec {
  TaskIndex tasks = 0;
  std::string indices;  // what they are called (array_spec.h); empty: each has an input of its own
  TaskIndex max_at_once = 0;  // 0: as many as there are slots
  int batch = 1;              // tasks that are given to a slot together
  // Of a task, by whose fault they failed; then it is given up and reported. 0: the default.
  int max_attempts = 3;  // that failed by themselves
  int max_oom_attempts = FaultBudgets{}.out_of_memory;
  int max_preemptions = 0;                        // any number
  uint64_t max_result_bytes = uint64_t{8} << 20;  // a task that gives more has failed
  bool warm =
      false;  // one process takes many inputs, a line each (control/worker/tasks/warm_process.h)

  bool operator==(const ArrayJobSpec&) const = default;
};

struct JobSpec {
  std::string name;
  std::vector<std::string> command;  // argv
  std::map<std::string, std::string> env;
  std::string working_directory;  // on the worker; empty: the worker's own
  int ranks = 1;
  bool fail_when_full = false;   // too few free slots: fail at once instead of waiting
  milliseconds join_timeout{0};  // from the first rank's join to the last one's; 0: the default
  milliseconds grace{0};         // from SIGTERM to SIGKILL; 0: the default
  int max_ranks_per_worker = 0;  // 0: as many as it has slots
  // Elastic: from so many workers on, each with max_ranks_per_worker ranks, up to `ranks` in all.
  // 0: always `ranks`.
  int min_nodes = 0;
  // How often the gang is formed again: after a failure of its own, after a lost worker, after it
  // ran out of memory, after one of its workers was told to stop.
  int max_restarts = 0;
  int max_node_restarts = 0;
  int max_oom_restarts = 0;
  int max_preemptions = 0;
  milliseconds time_limit{0};         // from the first start on; 0: none
  std::optional<ArrayJobSpec> array;  // absent: a gang
  // Of each rank, or of each task while it runs. GPUs are its own alone.
  int gpus_per_rank = 0;
  uint64_t memory_per_rank = 0;
  PlacementStyle placement = PlacementStyle::kPack;
  int priority = 0;             // higher first, then in order of submission
  bool wait_for_nodes = false;  // one that no known worker could ever run waits for new ones
  bool terminal = false;        // stdout and stderr are pseudo terminals, not pipes
  // A gang's rank 0 reads on stdin what is sent to it. It cannot be sent twice, so such a gang is
  // never formed again.
  bool input = false;

  int max_restarts_after(FaultKind kind) const;
  bool may_restart() const {
    return max_restarts + max_node_restarts + max_oom_restarts + max_preemptions > 0;
  }
  // Of an array: for one task.
  Demand demand() const {
    const Resources each{1, gpus_per_rank, memory_per_rank};
    if (array) return {1, each, 0, 0, PlacementStyle::kPack};
    return {ranks, each, max_ranks_per_worker, min_nodes, placement};
  }
  int max_nodes() const {
    return max_ranks_per_worker > 0 ? (ranks + max_ranks_per_worker - 1) / max_ranks_per_worker : 0;
  }
};

enum class JobState { kPending, kStarting, kRunning, kStopping, kSucceeded, kFailed, kStopped };
std::string_view to_string(JobState state);
inline bool has_ended(JobState state) {
  return state == JobState::kSucceeded || state == JobState::kFailed || state == JobState::kStopped;
}

enum class RankState { kAssigned, kSpawned, kJoined, kLeft, kExited, kLost };

// The exit codes of a shell for a program that is not there and for one that cannot be executed.
constexpr int kCannotStartCode = 127;
constexpr int kNotExecutableCode = 126;
// As of timeout(1): the job's time limit was over.
constexpr int kTimeLimitCode = 124;

// How a rank's process ended.
struct RankExit {
  int exit_code = 0;  // 128 + signal when a signal ended it
  int signal = 0;     // 0: none
  bool stopped_by_us = false;
  std::string launch_error;  // the program could not be executed
  std::vector<std::string> last_lines;
  std::string process_state;  // "T": found stopped when it was to be ended
  // Stopped by its worker, which was told to stop itself.
  bool preempted = false;
  ExitEvidence evidence{};
};

// Everything seen of one rank: what is shown to people and what a verdict is drawn from. `order`
// counts what the master saw, so that two things in the same millisecond still have a first and a
// second.
struct RankRecord {
  Rank rank = 0;
  WorkerId worker;
  std::string host;
  int64_t pid = 0;
  RankState state = RankState::kAssigned;
  std::vector<int> gpus;  // of the worker's, this rank's alone

  std::optional<Instant> joined_at;
  bool left = false;

  std::optional<RankExit> exit;
  Instant exited_at;
  uint64_t exit_order = 0;

  std::optional<RankFault> fault;  // the first one it reported
  Instant fault_at;
  uint64_t fault_order = 0;

  std::optional<RankProgress> progress;
  Instant progress_at;
  Instant moved_at;  // when its step or its count of collectives last changed

  std::optional<Instant> waits_in_store_since;
  bool victim = false;
  uint64_t unix_ms_started = 0;
  uint64_t unix_ms_exited = 0;

  bool joined() const { return joined_at.has_value(); }
  // Its process is gone, or nobody can tell any more.
  bool accounted() const { return state == RankState::kExited || state == RankState::kLost; }
};

enum class FailureClass {
  kExitCode,
  kSignal,
  kException,
  kLaunch,
  kJoinTimeout,
  kEarlyExit,
  kHang,
  kWorkerLost,
  kNoRoom,
  kTimeLimit,
  kTasks,  // of an array: some were given up, or none succeeded
  kOutOfMemory,
  kKilled,        // by SIGKILL, which nobody of ours sent
  kPreempted,     // its worker was told to stop
  kStateDamaged,  // its rows in the master's database cannot be read
};
std::string_view to_string(FailureClass failure_class);
// Whose budget an attempt that failed so counts against.
FaultKind fault_kind(FailureClass failure_class);

// Who failed first, and how we know.
struct FailureReport {
  FailureClass failure_class = FailureClass::kExitCode;
  std::optional<Rank> rank;  // absent when the culprit is a worker or the cluster
  WorkerId worker;
  std::string host;
  int64_t pid = 0;
  int exit_code = 0;
  int signal = 0;
  std::string message;  // one sentence
  std::vector<std::string> evidence;
  std::vector<std::string> last_lines;
  std::vector<std::string> backtrace;  // of its crash; the innermost frame first
  std::vector<Rank> victims;
};

// Nothing moves: no rank has begun a step or a collective for a while. It may be a hang, or a long
// piece of work of one rank; it is shown, and decides nothing.
struct Hang {
  std::optional<Rank> rank;        // who is behind; absent: nobody
  std::vector<Rank> waiting;       // for it, or all for each other
  uint64_t unix_ms_since = 0;      // nothing has moved since
  std::string message;             // one sentence
  std::string process_state;       // of its process, from /proc: "T" when it is stopped
  std::vector<std::string> stack;  // of its thread that trains, the innermost frame first

  bool operator==(const Hang&) const = default;
};

struct GivenUpTask {
  uint64_t task = 0;   // as its user calls it: its index, or its place from 0 on
  std::string reason;  // of its last failure
};

// Who asked that a job be stopped. It is what the client said, and nothing proves it.
struct StopOrigin {
  std::string user;
  std::string host;
  std::string command;   // "longhaul stop j3"
  uint64_t unix_ms = 0;  // when the master heard it

  // "ann on host-a: longhaul stop j3"; "a user" when nothing was said.
  std::string text() const;
};

// How far an array has come.
struct ArrayStatus {
  TaskCounts counts;
  TaskIndex ended_below = 0;          // all tasks before this one have ended
  std::vector<GivenUpTask> given_up;  // the first 20
};

struct JobStatus {
  JobId id;
  uint64_t life = 0;  // of the master's state when it was submitted
  JobSpec spec;
  JobState state = JobState::kPending;
  std::string reason;  // why it waits, or how it ended
  Generation generation = 1;
  std::vector<RankRecord> ranks;
  std::optional<ArrayStatus> array;
  std::optional<FailureReport> failure;
  std::optional<Hang> hang;  // while nothing moves
  int exit_code = 0;
  int restarts = 0;                             // after failures of its own
  int node_restarts = 0;                        // after lost workers
  int oom_restarts = 0;                         // after it ran out of memory
  int preemptions = 0;                          // after workers that were told to stop
  std::vector<FailureReport> earlier_failures;  // of attempts before this one; the last 20
  uint64_t unix_ms_submitted = 0;
  uint64_t unix_ms_started = 0;  // the first time
  uint64_t unix_ms_ended = 0;
  // While it waits and has a reservation: it starts then at the latest. 0: nobody knows.
  uint64_t unix_ms_expected_start = 0;
  std::optional<StopOrigin> stopped_by;  // who asked first

  int restarts_after(FaultKind kind) const;
  void count_restart(FaultKind kind);
  int all_restarts() const { return restarts + node_restarts + oom_restarts + preemptions; }
};

}  // namespace longhaul

// The values that a client of the master sees: what it submits, and what the master tells about it.
// They mirror proto/longhaul/v1/job.proto; only control/ knows the protos themselves.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "longhaul/base/clock.h"
#include "longhaul/membership/coordinator.h"
#include "longhaul/membership/ids.h"

namespace longhaul {

// One training run: all ranks at once.
struct JobSpec {
  std::string name;
  std::vector<std::string> command;        // argv; command[0] is looked up on the worker
  std::map<std::string, std::string> env;  // added to the worker's own environment
  std::string working_directory;           // on the worker; empty: the worker's own
  uint32_t ranks = 1;
  bool fail_when_full = false;   // too few free slots: fail at once instead of waiting
  milliseconds join_timeout{0};  // from the first rank's join to the last one's; 0: the master's
  milliseconds grace{0};         // from SIGTERM to SIGKILL; 0: the master's default
  uint32_t max_ranks_per_worker = 0;  // 0: as many as it has slots
};

enum class JobState {
  kUnknown,
  kPending,   // waits for slots; JobStatus::reason says for what
  kStarting,  // workers check the program and spawn the ranks
  kRunning,
  kStopping,  // the verdict is known; ranks are being stopped
  kSucceeded,
  kFailed,
  kStopped,  // by a user
};

enum class RankState { kUnknown, kAssigned, kSpawned, kJoined, kLeft, kExited, kLost };

// How the first rank to fail did so.
enum class FailureClass {
  kUnknown,
  kExitCode,
  kSignal,
  kException,
  kLaunch,
  kJoinTimeout,
  kEarlyExit,
  kHang,
  kWorkerLost,
  kNoRoom,
};

// "pending", "exit code", "join timeout": for people and for JSON.
std::string_view to_string(JobState state);
std::string_view to_string(RankState state);
std::string_view to_string(FailureClass failure_class);

// True for kSucceeded, kFailed and kStopped: nothing changes any more.
bool has_ended(JobState state);

struct RankStatus {
  Rank rank = 0;
  WorkerId worker_id;
  std::string host;
  int64_t pid = 0;
  RankState state = RankState::kUnknown;
  int exit_code = 0;    // meaningful in kExited; 128 + signal when a signal ended it
  int signal = 0;       // 0: none
  bool victim = false;  // stopped, or failed, because of another rank
  std::optional<RankProgress> progress;
  std::optional<RankFault> fault;  // what the rank itself said before it stopped
  int64_t unix_ms_started = 0;
  int64_t unix_ms_exited = 0;
};

// Who failed first, and how we know.
struct FailureReport {
  FailureClass failure_class = FailureClass::kUnknown;
  std::optional<Rank> rank;  // the culprit; absent when it is a worker or the cluster
  WorkerId worker_id;
  std::string host;
  int64_t pid = 0;
  int exit_code = 0;
  int signal = 0;
  std::string message;                  // one sentence
  std::vector<std::string> evidence;    // what was seen, in order
  std::vector<std::string> last_lines;  // of the culprit's stderr (stdout when that is empty)
  std::vector<Rank> victims;
};

struct JobStatus {
  JobId job_id;
  JobSpec spec;
  JobState state = JobState::kUnknown;
  std::string reason;  // why it waits, or how it ended, in one sentence
  Generation generation = 0;
  std::vector<RankStatus> ranks;
  std::optional<FailureReport> failure;
  int exit_code = 0;  // meaningful once ended
  int64_t unix_ms_submitted = 0;
  int64_t unix_ms_started = 0;
  int64_t unix_ms_ended = 0;
};

enum class NodeState { kUnknown, kReady, kUnreachable, kLost };
std::string_view to_string(NodeState state);

// A worker, as the master sees it.
struct NodeStatus {
  WorkerId worker_id;
  std::string host;
  std::string address;
  NodeState state = NodeState::kUnknown;
  uint32_t slots = 0;
  uint32_t used_slots = 0;
  int64_t pid = 0;
  std::string version;
  int64_t unix_ms_last_heard = 0;
  std::vector<JobId> jobs;
};

// A piece of a rank's output; pieces of one (rank, stream) are in order and `offset` counts its
// bytes.
struct OutputPiece {
  Rank rank = 0;
  bool is_stderr = false;
  uint64_t offset = 0;
  std::string data;
};

}  // namespace longhaul

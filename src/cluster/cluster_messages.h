// What the master says to workers and hears from them, as values: proto/longhaul/v1/
// worker_service.proto without gRPC. Every message about a launch names (job, generation, life).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "cluster/arrays/task_table.h"
#include "cluster/event.h"
#include "cluster/jobs/job.h"
#include "cluster/shards/shard_book.h"
#include "cluster/store/rendezvous_store.h"

namespace longhaul {

// One stream of one worker, numbered by the master; no number is used twice in one life of the
// process.
using SessionId = uint64_t;

// `life` is that of the master's state (ClusterMemory::life): a state that was wiped or put back
// from a copy gives the same numbers again, and another life.
struct LaunchId {
  JobId job;
  Generation generation = 1;
  uint64_t life = 0;

  auto operator<=>(const LaunchId&) const = default;
};

// A lease that a worker holds, and with which others it shares a slot.
struct HeldLease {
  LaunchId launch;
  Lease lease;
  LeaseEpoch batch = 0;
  std::vector<int> gpus = {};  // the batch's own
};

struct WorkerRegistration {
  WorkerId wanted_id;
  std::string incarnation;  // random, made when the worker started
  std::string host;
  std::string address;
  int slots = 0;
  int64_t pid = 0;
  std::string version;
  std::vector<LaunchId> inventory;  // launches that still run there
  std::vector<HeldLease> leases;    // tasks that it runs, will run, or has results of
  int gpus = 0;                     // their numbers are 0 to gpus - 1
  uint64_t memory_bytes = 0;

  Resources room() const { return {slots, gpus, memory_bytes}; }
};

// To workers.

// Answers a registration. Before it has come the worker does nothing that it is told on a stream,
// so all else is sent after it.
struct RegisteredMessage {
  WorkerId id;
  uint64_t life = 0;
  milliseconds heartbeat_interval{0};
  milliseconds lease{0};
  std::vector<LaunchId> unknown;  // launches to stop and to forget
  std::vector<LaunchId> over;     // likewise, and what they print is still wanted
};

// The worker is not taken, and ends.
struct RefusedMessage {
  std::string reason;
};

// Each one is answered by a PreparedMessage; one that may have been lost is sent again. Nothing is
// started by it.
struct PrepareMessage {
  LaunchId launch;
  JobSpec spec;
  bool want_port = false;
};

// Starts a worker's ranks. A worker ignores a launch that it has already, so one that may have been
// lost is sent again.
struct LaunchMessage {
  LaunchId launch;
  JobSpec spec;
  std::vector<Rank> ranks;
  int node_rank = 0;
  int node_count = 1;
  int restarts = 0;  // attempts before this one
  std::string master_addr;
  int master_port = 0;
  std::vector<int> gpus = {};  // as many for each rank, in the order of `ranks`
};

// SIGTERM, then SIGKILL after the grace, by the worker's own clock: no second message is needed for
// that. A later one can only bring the SIGKILL of ranks forward. Also ends the tasks of an array.
struct StopRanksMessage {
  LaunchId launch;
  milliseconds grace{0};
  std::string reason;
};

// It is behind and nothing moves: what is it doing?
struct LookAtRankMessage {
  LaunchId launch;
  Rank rank = 0;
};

// Tasks of an array; those of one batch run one after the other in one slot. A batch is named by
// the epoch of its first lease.
struct TaskBatch {
  std::vector<Lease> leases;
  std::vector<int> gpus;  // for whichever of them runs
};

// A worker ignores leases that it has already.
struct GrantTasksMessage {
  LaunchId launch;
  JobSpec spec;
  std::vector<TaskBatch> batches;
};

// What became of leases, by their epochs: their ends are taken, or they count no more; either way
// the worker forgets them, and stops what still runs.
struct TaskAnswersMessage {
  std::vector<LeaseEpoch> taken;
  std::vector<LeaseEpoch> stale;
};

struct StoreAnswerMessage {
  uint64_t call_id = 0;
  StoreResult result;
};

struct ShardAnswerMessage {
  uint64_t call_id = 0;
  ShardAnswer answer;
  std::optional<Failure> failure;
};

struct HeartbeatMessage {
  uint64_t sequence = 0;
};

using ToWorker =
    std::variant<RegisteredMessage, RefusedMessage, PrepareMessage, LaunchMessage, StopRanksMessage,
                 LookAtRankMessage, GrantTasksMessage, TaskAnswersMessage, StoreAnswerMessage,
                 ShardAnswerMessage, HeartbeatMessage>;

// From workers. A worker may say the same again after a reconnect, because it cannot know what has
// arrived; so the master must be able to take each message more than once.

struct PreparedMessage {
  LaunchId launch;
  std::string error;  // empty: it can start the program
  int port = 0;
  int exit_code = 0;  // with an error: what a shell would exit with
};

struct RankSpawned {
  int64_t pid = 0;
};
struct RankJoined {};
struct RankLeft {};
// As its worker sees it.
struct RankLook {
  std::string process_state;
};

// RankProgress and RankLook are said once and may get lost. The worker keeps all others and repeats
// them on each new stream until the answer to a later heartbeat confirms them.
using RankChange =
    std::variant<RankSpawned, RankJoined, RankProgress, RankFault, RankLeft, RankLook, RankExit>;

struct RankEventMessage {
  LaunchId launch;
  Rank rank = 0;
  RankChange change;
};

// Repeated with the same call_id on each new stream of the worker until it is answered; likewise a
// ShardCallMessage.
struct StoreCallMessage {
  uint64_t call_id = 0;
  LaunchId launch;
  Rank rank = 0;
  StoreCommand command;
};

struct ShardCallMessage {
  uint64_t call_id = 0;
  LaunchId launch;
  Rank rank = 0;
  ShardExchange exchange;
};

// Repeated on each new stream of the worker until a TaskAnswersMessage names the lease's epoch.
struct TaskEndedMessage {
  LaunchId launch;
  Lease lease;
  RankExit exit;
  std::string refused;  // not empty: it exited 0, but its result cannot be taken, and why
  uint32_t ran_ms = kNotMeasured;  // its process
  bool host_fault = false;  // with refused: somebody else's fault, and another try may do well
};

// What a worker says about one launch of a job, but for the ends of tasks, which come many at once.
using FromWorker =
    std::variant<PreparedMessage, RankEventMessage, StoreCallMessage, ShardCallMessage>;

// What must be done about a change. Effects are values: they can be compared, logged and replayed.

struct SendEffect {
  SessionId session = 0;
  ToWorker message;
};

// The stream is of no more use (refused, or its worker has another one).
struct CloseEffect {
  SessionId session = 0;
};

// Somebody watching this job should hear of it; progress alone is not urgent.
struct JobChangedEffect {
  JobId job;
  bool urgent = true;
};

// To be made durable: what a restarted master must know of `key`, of that noun. The state tells by
// the noun's own call what it is now; the nouns and their names:
//   kJobRows     a job's id      ClusterState::record(); nullptr: it is forgotten
//   kWorkerRows  a worker's id   ClusterState::worker(); likewise
//   kTaskRows    a job's id      ClusterState::take_task_rows()
//   kShardRows   a job's id      ClusterState::take_shard_rows()
//   kStoreRows   a job's id      ClusterState::take_store_rows()
struct RowChangedEffect {
  std::string_view noun;
  std::string key;

  auto operator<=>(const RowChangedEffect&) const = default;
};

// For the log of operators.
struct NoteEffect {
  std::string text;
};

// For the journal of what happened, which is to be made durable; its number and time are added
// there.
struct JournalEffect {
  ClusterEvent event;
};

// An ended job was dropped from memory.
struct JobForgottenEffect {
  JobId job;
};

using Effect = std::variant<SendEffect, CloseEffect, JobChangedEffect, RowChangedEffect, NoteEffect,
                            JobForgottenEffect, JournalEffect>;

}  // namespace longhaul

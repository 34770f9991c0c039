// What is known of one process, in a page that its shim and its worker share: the file "ledger" in
// its folder. It outlives either of them, and whoever comes next finds in it what the other one
// did last: nothing has to be told twice, and nothing that was written is lost by kill -9.
//
// The shim maps it. The worker reads and writes it by calls (process_folder.h): the rank can cut
// the file short, and whoever has it mapped dies of that; it must be the rank's own shim alone.
//
// Every field has one writer. The file is allocated before the rank starts, so that a full disk
// cannot take an exit code away. Both ends run on one host; a ledger of another kVersion is not
// read beyond its first part, which never changes.
#pragma once

#include <atomic>
#include <cstdint>

namespace longhaul {

enum class RankPhase : int32_t {
  kCreated = 0,     // no shim yet
  kShim = 1,        // the shim runs: shim_pid, shim_start_time
  kStarted = 2,     // so does the rank: rank_pid
  kNotStarted = 3,  // farewell: failed_step, error_number
  kEnded = 4,       // farewell: wait_status; all that the rank started is gone too
  kLingering = 5,   // after kStarted: wait_status is known, and some that it started still run
};

// What the shim was doing when `error_number` came.
enum class ShimStep : int32_t { kNone = 0, kFork = 1, kChangeDirectory = 2, kExecute = 3 };

struct ProcessLedger {
  static constexpr const char* kFileName = "ledger";
  static constexpr int64_t kFileBytes = 4096;  // of every version
  static constexpr uint64_t kMagic = 0x6b6e61726c686e6c;
  static constexpr uint32_t kVersion = 1;
  static constexpr int kStreams = 2;  // stdout, stderr

  // The worker, before the shim starts.
  uint64_t magic;
  uint32_t version;
  char token[64];  // the rank's secret; also what marks its processes (LONGHAUL_AGENT_TOKEN)

  // The shim, each before the phase that says so. shim_pid alone tells nothing: see ProcStat.
  int32_t shim_pid;
  uint64_t shim_start_time;
  std::atomic<RankPhase> phase;

  // End of the part that never changes.
  int32_t rank_pid;
  ShimStep failed_step;
  int32_t error_number;
  int32_t wait_status;      // as waitpid() gives it
  bool stopped_by_command;  // a command came, or nobody came back, while the rank was alive
  char process_state;       // its state in /proc when the first command came; 0: none came

  struct Stream {
    // The shim: how much the rank has written, what the disk did not take included.
    std::atomic<uint64_t> end;
    // The worker: the master has it up to here.
    std::atomic<uint64_t> acknowledged;
  };
  Stream streams[kStreams];

  // The worker: the last store calls of the rank that must not be done twice, by the numbers that
  // the rank gave them, and the numbers under which the master knows them.
  struct Call {
    std::atomic<uint64_t> number;
    uint64_t call_id;
  };
  static constexpr uint32_t kCalls = 64;  // more than a rank has under way at once
  Call calls[kCalls];
  // How many were ever put there: the next one goes to next_call % kCalls, over the oldest.
  uint32_t next_call;

  // The worker, before the shim starts: how the rank is to be run. All 0 from a worker that does
  // not know them.
  struct Orders {
    // What the rank's first process leaves running is left alone for so long; see tree_end.h.
    int64_t linger_ms;
    int64_t grace_ms;           // from the SIGTERM that follows to SIGKILL
    uint64_t descriptor_limit;  // the rank's soft limit of open files; 0: the shim's own
    bool terminal;              // stdout and stderr are pseudo terminals instead of pipes
    bool input;                 // stdin is what comes through the file kInputName, else /dev/null
  };
  Orders orders;

  // The shim, before kEnded: which processes it had to end besides the first one, for people.
  char ended_too[512];

  // The rank's stdin, with orders.input. Byte n of it lies at n % kInputBytes of the file
  // kInputName from when the worker has it until the rank's pipe has it.
  struct Input {
    std::atomic<uint64_t> given;  // the worker: so many bytes have been written there
    std::atomic<bool> ended;      // the worker: and nothing comes after them
    std::atomic<uint64_t> taken;  // the shim: so many are in the pipe
    std::atomic<bool> closed;     // the shim: nobody reads it any more
  };
  static constexpr const char* kInputName = "stdin";
  static constexpr uint64_t kInputBytes = uint64_t{256} << 10;
  Input input;

  bool has_farewell() const {
    const RankPhase now = phase.load(std::memory_order_acquire);
    return now == RankPhase::kNotStarted || now == RankPhase::kEnded;
  }
};

static_assert(sizeof(ProcessLedger) <= ProcessLedger::kFileBytes);
static_assert(std::atomic<uint64_t>::is_always_lock_free &&
              std::atomic<RankPhase>::is_always_lock_free);

}  // namespace longhaul

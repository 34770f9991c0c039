// A worker: offers its host's slots to a master, spawns the ranks that the master asks for, watches
// them, sends their output, serves their agent socket. longhaul-worker is one; `longhaul run
// --standalone` holds one in its own process.
//
//   Worker worker(settings);
//   Result<void> ended = worker.run();       // until shutdown(), or until the master refuses it
//
// Threads: run() is the owner; all state lives on the thread that calls it. gRPC's threads post to
// it. Thread safety: shutdown() from any thread (not from a signal handler); no signal handler is
// set here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "longhaul/base/clock.h"
#include "longhaul/base/result.h"
#include "rpc/credentials.h"

namespace longhaul {

struct WorkerSettings {
  std::string master;  // "host:port"
  Credentials credentials = plain_text();
  std::string name;           // asked for; empty: the host's name
  int slots = 0;              // 0: GPUs if there are any, else cores
  std::optional<int> gpus;    // unset: those that CUDA shows this process
  uint64_t memory_bytes = 0;  // for jobs that ask for it; 0: the host's, or its cgroup's limit
  std::string address;       // where ranks of other hosts reach this one; empty: towards the master
  std::string state_folder;  // empty: a temporary one, removed at the end
  std::string shim;          // longhaul-shim's path; empty: beside this executable or ../libexec
  // A worker that comes after a killed one in the same folder takes over the ranks that still run
  // and goes on in its place; false: it kills them and starts anew.
  bool adopt = true;
  // How long ranks run on when their worker is killed; 0: they are killed too. Unset: 60 s, and 0
  // with a temporary state folder, where no other worker can come.
  std::optional<milliseconds> adopt_timeout;
  uint64_t spool_bytes = 64 << 20;  // kept of each rank's stdout and stderr; the oldest go first
  milliseconds master_timeout{3'600'000};  // then the ranks of a master that stays away are stopped
  milliseconds grace{5'000};  // from SIGTERM to SIGKILL when the worker itself stops ranks
};

class Worker {
 public:
  explicit Worker(WorkerSettings settings);
  ~Worker();

  // Runs until shutdown(). Errors: kInvalid (refused by the master, bad settings), kUnavailable (no
  // state folder, no socket). A master that is not there is no error: it is tried again and again.
  Result<void> run();

  // Stops the ranks with grace, tells the master, and lets run() return. A second call, or `force`,
  // kills them at once.
  void shutdown(bool force = false);

  // Makes room for another worker in the same state folder, which takes the ranks over: begins no
  // more tasks, lets those that run end (a second call does not wait for them: they are run again),
  // and calls `leave` on its own thread. That must end the process as if it was killed: an orderly
  // end would tell ranks and master what they must not hear. Without a state folder, or where ranks
  // would not outlive this worker, nothing happens, and the log says so.
  void hand_over(std::function<void()> leave);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longhaul

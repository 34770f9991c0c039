// One process behind its shim, of a rank or of a task: started or taken over, watched through a
// pidfd, ended with everything that it started. What it prints and how it ends is read from its
// folder.
//
// Thread safety: none; lives on one EventLoop's thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "cluster/jobs/job.h"
#include "control/worker/host/event_loop.h"
#include "control/worker/process/process_folder.h"
#include "control/worker/process/shim_protocol.h"
#include "longhaul/base/result.h"

namespace longhaul {

struct ProcessCommand {
  std::string program;            // absolute
  std::vector<std::string> argv;  // not empty
  std::string directory;          // empty: the worker's own
  // "NAME=value", all of it; ProcessFolder::mark() among them, which finds what a killed shim left
  // behind.
  std::vector<std::string> env;
};

struct ShimOptions {
  std::string program;  // path of longhaul-shim
  // How long a rank runs on without a worker; 0: it is killed at once.
  milliseconds adopt_timeout{0};
  uint64_t spool_bytes = 64 << 20;  // of each stream
  // What the rank's first process leaves running: see apps/shim/tree_end.h.
  milliseconds linger{5'000};
  milliseconds grace{5'000};
  uint64_t descriptor_limit = 0;  // the rank's soft limit of open files; 0: this process's own
  bool terminal = false;          // its stdout and stderr are pseudo terminals
  bool input = false;             // its stdin is what an InputRing gives it
  // How long a shim may take to kill everything before it is ended itself; it gives up after ten
  // seconds.
  milliseconds kill_patience{12'000};
};

// What ManagedProcess knows of an end: exit code and signal, launch_error (without the worker's
// name, which the master adds), stopped_by_us (it was alive when terminate() or kill() was called)
// and process_state (at the first of these calls). The rest is filled by exit_report().
struct ProcessEnd : RankExit {
  bool no_room_now = false;  // with launch_error: another try may well succeed, see is_passing()
  std::string ended_too;     // which processes that it left running had to be ended, for people
};

class ManagedProcess {
 public:
  struct Listener {
    std::function<void(int64_t pid)> started;
    // There is more in the spools.
    std::function<void()> output;
    // Its first process has ended so, and some that it started still run. Not told of every rank.
    std::function<void(const ProcessEnd&)> lingers;
    // Last of all; all output is in the spools. The process, its shim and its descendants are gone.
    std::function<void(const ProcessEnd&)> ended;
  };

  // `folder` outlives this.
  ManagedProcess(EventLoop& loop, const ProcessFolder& folder, Listener listener);
  // Not from inside a callback. A rank that still runs is killed by its shim; its end is not told.
  ~ManagedProcess();
  ManagedProcess(const ManagedProcess&) = delete;
  ManagedProcess& operator=(const ManagedProcess&) = delete;

  // Starts a shim for `command`. Errors: kUnavailable (the shim cannot be started: no such file),
  // kExhausted (not now: too many processes, too many open files, no memory); the listener is not
  // called then. That the rank itself could not be executed comes as its end.
  Result<void> start(const ShimOptions& shim, const ProcessCommand& command);

  // Takes over what another worker's start() has left in the folder. The listener hears from it as
  // if this one had started it: what is known now at once, the end of a rank that is gone soon.
  // `program` and `directory` are for messages.
  void adopt(const std::string& program, const std::string& directory);

  // SIGTERM; what does not end is left alone until kill().
  void terminate() { send(ShimCommand::kTerminate); }
  // Its InputRing has something new.
  void input_given();
  // Ends everything. A shim that does not do it in time, whatever keeps it, is ended itself.
  void kill();

 private:
  Result<void> spawn(const ShimOptions& shim, const ProcessCommand& command, int control);
  void take_back();
  void watch();
  void send(ShimCommand command);
  void on_control();
  void look();
  void shim_ended();
  void find_predecessors_shim();
  void kill_shim();
  void refresh();
  ProcessEnd describe_end() const;
  ProcessEnd describe_exit() const;

  EventLoop& loop_;
  const ProcessFolder& folder_;
  Listener listener_;
  std::string program_;
  std::string directory_;
  pid_t shim_pid_ = -1;  // of a child of ours
  // The default is for a process that was taken over: its options are not known here.
  milliseconds kill_patience_ = ShimOptions().kill_patience;
  bool told_started_ = false;
  bool told_lingers_ = false;
  bool ledger_is_lost_ = false;
  // terminate() or kill() was called: where the shim was killed and its ledger has no farewell,
  // only this tells that the rank was stopped on purpose.
  bool commanded_ = false;
  bool told_to_kill_ = false;
  // A pidfd, valid until the shim has ended.
  UniqueFd shim_fd_;
  // Invalid where a shim that was taken over accepts no connection.
  UniqueFd control_;
  // The one timer there is: the next look for the shim, or when it is killed.
  EventLoop::TimerId patience_ = 0;
};

}  // namespace longhaul

// One rank's process behind its shim: started or taken over, watched through a pidfd, ended with
// everything that it started. What it prints and how it ends is read from its folder.
//
// Thread safety: none; lives on one EventLoop's thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "control/worker/event_loop.h"
#include "control/worker/rank_folder.h"
#include "control/worker/shim_protocol.h"
#include "longhaul/base/result.h"
#include "longhaul/base/unique_fd.h"

namespace longhaul {

struct RankCommand {
  std::string program;            // absolute
  std::vector<std::string> argv;  // not empty
  std::string directory;          // empty: the worker's own
  // "NAME=value", all of it; RankFolder::mark() among them, which finds what a killed shim left
  // behind.
  std::vector<std::string> env;
};

struct ShimOptions {
  std::string program;  // path of longhaul-shim
  // How long a rank runs on without a worker; 0: it is killed at once.
  milliseconds adopt_timeout{0};
  uint64_t spool_bytes = 64 << 20;  // of each stream
};

struct RankEnd {
  int exit_code = 0;  // 128 + signal when a signal ended it
  int signal = 0;
  bool stopped_by_us = false;  // it was alive when terminate() or kill() was called
  std::string launch_error;    // it never ran: why; the master adds the worker's name
  std::string process_state;   // at the first terminate() or kill(), from /proc; "T": stopped
  std::string out_of_memory;   // who says that it was ended for its memory; filled by the caller
};

class RankProcess {
 public:
  struct Listener {
    std::function<void(int64_t pid)> started;
    // There is more in the spools.
    std::function<void()> output;
    // Last of all; all output is in the spools. The process, its shim and its descendants are gone.
    std::function<void(const RankEnd&)> ended;
  };

  // `folder` outlives this.
  RankProcess(EventLoop& loop, const RankFolder& folder, Listener listener);
  // Not from inside a callback. A rank that still runs is killed by its shim; its end is not told.
  ~RankProcess();
  RankProcess(const RankProcess&) = delete;
  RankProcess& operator=(const RankProcess&) = delete;

  // Starts a shim for `command`. Errors: kUnavailable (the shim cannot be started: no such file,
  // too many processes, too many open files); the listener is not called then. That the rank itself
  // could not be executed comes as its end.
  Result<void> start(const ShimOptions& shim, const RankCommand& command);

  // Takes over what another worker's start() has left in the folder. The listener hears from it as
  // if this one had started it: what is known now at once, the end of a rank that is gone soon.
  // `program` and `directory` are for messages.
  void adopt(const std::string& program, const std::string& directory);

  void terminate() { send(ShimCommand::kTerminate); }
  void kill() { send(ShimCommand::kKill); }

 private:
  Result<void> spawn(const ShimOptions& shim, const RankCommand& command, int control);
  void watch();
  void send(ShimCommand command);
  void on_control();
  void look();
  void shim_ended();
  RankEnd describe_end() const;

  EventLoop& loop_;
  const RankFolder& folder_;
  Listener listener_;
  std::string program_;
  std::string directory_;
  pid_t shim_pid_ = -1;  // of a child of ours
  bool told_started_ = false;
  bool commanded_ = false;
  UniqueFd shim_fd_;
  UniqueFd control_;
  EventLoop::TimerId patience_ = 0;
};

}  // namespace longhaul

// One rank's process behind its shim: started, watched through a pidfd, its output read until the
// last byte, ended with everything that it started.
//
// Thread safety: none; lives on one EventLoop's thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "control/worker/event_loop.h"
#include "control/worker/shim_protocol.h"
#include "longhaul/base/result.h"
#include "longhaul/base/unique_fd.h"

namespace longhaul {

enum class RankStream { kStdout = 0, kStderr = 1 };

struct RankCommand {
  std::string program;            // absolute
  std::vector<std::string> argv;  // not empty
  std::string directory;          // empty: the worker's own
  std::vector<std::string> env;   // "NAME=value", all of it
  // "NAME=value" of env that no other process has: finds what a killed shim left behind.
  std::string mark;
};

struct RankEnd {
  int exit_code = 0;  // 128 + signal when a signal ended it
  int signal = 0;
  bool stopped_by_us = false;  // it was alive when terminate() or kill() was called
  std::string launch_error;    // it never ran: why; the master adds the worker's name
  std::string process_state;   // at the first terminate() or kill(), from /proc; "T": stopped
};

class RankProcess {
 public:
  struct Listener {
    std::function<void(int64_t pid)> started;
    std::function<void(RankStream, std::string_view)> output;
    // Last of all, after all output. The process, its shim and its descendants are gone.
    std::function<void(const RankEnd&)> ended;
  };

  RankProcess(EventLoop& loop, Listener listener);
  // Not from inside a callback. A rank that still runs is killed by its shim, whose socket closes
  // here; its end is not told.
  ~RankProcess();
  RankProcess(const RankProcess&) = delete;
  RankProcess& operator=(const RankProcess&) = delete;

  // Starts `shim` for `command`. Errors: kUnavailable (the shim cannot be started: no such file,
  // too many processes, too many open files); the listener is not called then. That the rank itself
  // could not be executed comes as its end.
  Result<void> start(const std::string& shim, const RankCommand& command);

  void terminate() { send(ShimCommand::kTerminate); }
  void kill() { send(ShimCommand::kKill); }

 private:
  struct Pipe {
    UniqueFd fd;
    RankStream stream;
  };

  Result<void> spawn(const std::string& shim, const RankCommand& command, int control,
                     int stdout_end, int stderr_end);
  void send(ShimCommand command);
  void read_reports();
  // Reads once; false at the end of the pipe, or when nothing is there now.
  bool read_output(Pipe& pipe);
  void close_pipe(Pipe& pipe);
  void shim_ended();
  void finish();
  RankEnd describe_end() const;

  EventLoop& loop_;
  Listener listener_;
  std::string program_;
  std::string directory_;
  std::string mark_;
  pid_t shim_pid_ = -1;
  int64_t rank_pid_ = 0;
  UniqueFd shim_fd_;
  UniqueFd control_;
  Pipe stdout_{UniqueFd(), RankStream::kStdout};
  Pipe stderr_{UniqueFd(), RankStream::kStderr};
  bool has_farewell_ = false;
  bool shim_gone_ = false;
  bool commanded_ = false;
  ShimReport farewell_;
  EventLoop::TimerId drain_timer_ = 0;
};

// Kills every process whose environment holds `mark` ("NAME=value"), until none is found.
void kill_marked_processes(const std::string& mark);

}  // namespace longhaul

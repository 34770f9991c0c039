// A process and all that it starts, as their parent: started, signalled, reaped, killed to the last
// one.
//
// The shim is the subreaper of everything below it: a grandchild that daemonizes becomes its child.
// When the shim itself is killed, the kernel kills the rank (PR_SET_PDEATHSIG).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "control/worker/process/process_ledger.h"

namespace longhaul {

class ProcessTree {
 public:
  struct StartError {
    ShimStep step = ShimStep::kNone;
    int error_number = 0;
  };

  // Makes this process the subreaper.
  ProcessTree();

  struct Program {
    const char* path = nullptr;
    const char* directory = nullptr;  // "": this process's own
    char** argv = nullptr;
    int in = -1;   // its stdin; -1: this process's own
    int out = -1;  // its stdout and stderr
    int err = -1;
    uint64_t descriptor_limit = 0;  // its soft limit of open files; 0: this process's own
  };
  // step kNone: it runs.
  StartError start(const Program& program);

  pid_t rank() const { return rank_; }
  bool rank_ended() const { return rank_ended_; }
  // As waitpid() gives it. While the rank runs it is that of a process that SIGKILL ended, so that
  // a rank that even SIGKILL could not end is not taken for one that did well.
  int wait_status() const { return wait_status_; }

  // Reaps whoever has ended, adopted descendants too. Returns false when no child is left.
  bool reap();
  // To the rank's process group, and to the rank itself should it have left its group.
  void signal(int signal_number) const;

  struct Member {
    pid_t pid = 0;
    bool in_group = false;  // of the rank
    std::string name;       // how it was called, in one short line
  };
  // Every descendant that runs.
  std::vector<Member> members() const;
  // SIGTERM to each of them that can take one.
  static void terminate(const std::vector<Member>& members);

  // Every descendant; returns when all are gone, at the latest after some seconds (a process that
  // SIGKILL does not end sits in the kernel).
  void kill_everything();

 private:
  pid_t rank_ = -1;
  bool rank_ended_ = false;
  int wait_status_ = 9;  // SIGKILL
};

}  // namespace longhaul

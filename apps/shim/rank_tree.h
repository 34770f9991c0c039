// The rank and all that it starts, as their parent: started, signalled, reaped, killed to the last
// one.
//
// The shim is the subreaper of everything below it: a grandchild that daemonizes becomes its child.
// When the shim itself is killed, the kernel kills the rank (PR_SET_PDEATHSIG).
#pragma once

#include <sys/types.h>

#include "control/worker/rank_ledger.h"

namespace longhaul {

class RankTree {
 public:
  struct StartError {
    ShimStep step = ShimStep::kNone;
    int error_number = 0;
  };

  // Makes this process the subreaper.
  RankTree();

  // `out` and `err` become the rank's stdout and stderr. step kNone: it runs.
  StartError start(const char* program, const char* directory, char** argv, int out, int err);

  pid_t rank() const { return rank_; }
  bool rank_ended() const { return rank_ended_; }
  int wait_status() const { return wait_status_; }  // once it has ended

  // Reaps whoever has ended, adopted descendants too. Returns false when no child is left.
  bool reap();
  // To the rank's process group, and to the rank itself should it have left its group.
  void signal(int signal_number) const;
  // Every descendant; returns when all are gone, at the latest after some seconds (a process that
  // SIGKILL does not end sits in the kernel).
  void kill_everything();

 private:
  pid_t rank_ = -1;
  bool rank_ended_ = false;
  int wait_status_ = 0;
};

}  // namespace longhaul

// What /proc/PID/stat says of a process. Used by the shim too: libc only.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

namespace longhaul {

struct ProcStat {
  char state = 0;  // 'R', 'S', 'T' (stopped), 'Z' (ended, not yet reaped), ...
  pid_t parent = 0;
  pid_t group = 0;
  // In clock ticks since the host started. A pid is used again some day; pid and start time are
  // not.
  uint64_t start_time = 0;

  bool running() const { return state != 'Z' && state != 'X'; }
};

// nullopt: there is no such process (errno: ENOENT or ESRCH), or it cannot be read (any other
// errno).
std::optional<ProcStat> read_proc_stat(pid_t pid);

}  // namespace longhaul

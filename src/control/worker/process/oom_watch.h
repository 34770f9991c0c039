// Whether the kernel has ended a process for its memory. Asked about a rank that died of SIGKILL
// which Longhaul did not send; three witnesses, the surest first:
//
//   1. the kernel's log (/dev/kmsg): "Killed process PID (name)". Root's, as a rule. Where it can
//      be read, and pids are the host's own (no container), nobody else is asked;
//   2. this worker's cgroup, in which its ranks run: oom_kill in memory.events (cgroup v2) or in
//      memory.oom_control (v1) has risen;
//   3. where the cgroup has no such file: oom_kill of the whole host, in /proc/vmstat.
//
// A counter speaks only when it rose just now, within two calls of tick(), and for as many dead
// processes as it rose by: others may live in the same cgroup.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "base/unique_fd.h"

namespace longhaul {

class OomWatch {
 public:
  // Where the kernel shows these; a test has its own.
  struct Places {
    std::string proc = "/proc";
    std::string cgroups = "/sys/fs/cgroup";
    std::string kernel_log = "/dev/kmsg";
  };

  explicit OomWatch(const Places& places);
  OomWatch() : OomWatch(Places()) {}

  // About once a second.
  void tick();
  // Who says that process `pid` was ended for its memory; "" when nobody does.
  std::string witness_of(int64_t pid);

 private:
  void read_kernel_log();
  uint64_t count() const;

  std::string counter_file_;
  std::string counter_name_;  // for people
  uint64_t before_ = 0;       // the counter one or two ticks ago
  uint64_t latest_ = 0;       // at the last tick
  UniqueFd kernel_log_;
  bool log_is_enough_ = false;
  std::set<int64_t> killed_;  // pids in the kernel's log
};

}  // namespace longhaul

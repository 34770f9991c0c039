// The right to run one attempt of one task: (task, attempt, epoch, worker incarnation). What a
// worker reports of an attempt counts only while its lease is current; a commit names all four and
// is compared with what the master's table has (cluster/arrays/task_table.h).
#pragma once

#include <cstdint>
#include <string>

#include "longhaul/agent/ids.h"

namespace longhaul {

// A task by its place in its job, from 0.
using TaskIndex = uint32_t;
// What one master keeps in memory for one job (32 bytes each).
constexpr TaskIndex kMaxTasks = 10'000'000;

// One number for each grant of a cluster, ever (cluster/arrays/lease_epochs.h).
using LeaseEpoch = uint64_t;

struct Lease {
  TaskIndex task = 0;
  uint32_t attempt = 0;  // 1, 2, ... of this task; a lease given back unused takes a number too
  LeaseEpoch epoch = 0;
  std::string incarnation;  // of the worker: another one for each start of its daemon

  bool operator==(const Lease&) const = default;
};

// Whom leases are granted to.
struct LeaseHolder {
  WorkerId worker;
  std::string incarnation;

  bool operator==(const LeaseHolder&) const = default;
};

// What the master says to a commit that names a lease.
enum class CommitOutcome {
  kCommitted,
  kRepeated,  // this lease has committed before: the same answer again, nothing changes
  kStale,     // refused, for good
  kUnknown,   // refused, for good
};

}  // namespace longhaul

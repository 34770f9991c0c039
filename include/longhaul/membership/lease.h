// The right to run one attempt of one task: (task, attempt, epoch, worker incarnation). What a
// worker reports of an attempt counts only while its lease is current; a commit names all four and
// is compared with what the table has (task_table.h).
#pragma once

#include <cstdint>
#include <string>

#include "longhaul/membership/ids.h"

namespace longhaul {

// A task by its place in its job, from 0.
using TaskIndex = uint32_t;
// What one master keeps in memory for one job (32 bytes each).
constexpr TaskIndex kMaxTasks = 10'000'000;

// One number for each grant of a cluster, ever; see LeaseEpochs.
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

// Numbers leases. A master counts its boots on disk, before it grants anything, and puts that
// number above a counter: so an epoch is never used again, not even one whose grant was lost with
// the master before it was written. 40 bits of counter last for months of 100,000 grants a second,
// 23 bits of boots for eight million of them, and the sum fits SQLite's signed integers.
class LeaseEpochs {
 public:
  static constexpr int kCounterBits = 40;

  // `boot` >= 1, and greater than any before on this state folder.
  explicit LeaseEpochs(uint32_t boot);

  LeaseEpoch next();

 private:
  LeaseEpoch last_;
  LeaseEpoch end_;
};

}  // namespace longhaul

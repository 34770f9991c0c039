// What an operator may set of a cluster, and how patient it is.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cluster/failure/failure.h"
#include "cluster/scheduling/placement_policy.h"
#include "cluster/workers/worker_table.h"
#include "longhaul/base/clock.h"

namespace longhaul {

struct ClusterOptions {
  WorkerOptions workers;
  FailureOptions failure;
  milliseconds grace{5000};              // from SIGTERM to SIGKILL, where a job says nothing
  milliseconds prepare_timeout{30'000};  // a worker that is there answers much sooner
  milliseconds stop_margin{10'000};  // beyond the grace; then SIGKILL, then the ranks count as lost
  milliseconds inventory_grace{
      2000};  // a reconnected worker that misses a launch may still report it
  // Between the end of an attempt and the next: the first one soon, then longer each time.
  milliseconds restart_delay{200};
  milliseconds max_restart_delay{60'000};
  // So many attempts in a row that came no further than one before them, and the job is given up.
  int max_attempts_without_progress = 5;
  // The same for an array: so many attempts in a row of which none succeeded.
  uint32_t stall_after = 50;
  // A gang of which nothing has moved for so long is said to hang (hang.h).
  milliseconds hang_after{30'000};
  size_t keep_ended_jobs = 200;
  PlacementPolicy policy = plan_with_backfill;
  // What was lost this recently may come back: a job that would fit with it is not refused.
  milliseconds lost_may_return{600'000};
};

}  // namespace longhaul

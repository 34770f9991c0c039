// What a master keeps of one job so that a restarted one can go on with it: everything but what the
// clock and the connections of one life of the master mean.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/failure/failure.h"
#include "cluster/jobs/job.h"
#include "cluster/scheduling/placement.h"

namespace longhaul {

constexpr std::string_view kJobRows = "jobs";  // see RowChangedEffect

struct JobRecord {
  uint64_t number = 0;  // in order of submission; the id is "j<number>"
  JobStatus status;
  std::string submission_key;
  std::vector<RankShare> shares;      // in rank order; empty until placed
  std::vector<WorkerId> node_order;   // of the attempt before, by node rank
  int64_t best_step = -1;             // that any attempt has reported
  int attempts_without_progress = 0;  // in a row
  bool launched = false;              // workers may have been sent the launch, so ranks may run
  std::string master_addr;            // torchrun's, once launched
  int master_port = 0;
  std::map<WorkerId, WorkerEvidence> lost_workers;
  std::optional<Verdict> verdict;
  std::optional<Instant> started_at;  // the first time; what a time limit counts from
  std::string stop_reason;  // not empty: somebody has asked; it is never formed again then
  milliseconds stop_grace{0};
  bool killed = false;  // the grace is over, SIGKILL was asked for
  // Not empty, and not kept: what of it could not be read. It cannot go on.
  std::string damage;
};

}  // namespace longhaul

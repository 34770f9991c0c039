// What an earlier life of a master knew: all that control/database keeps, as values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cluster/arrays/task.h"
#include "cluster/jobs/job_record.h"
#include "cluster/workers/worker_table.h"
#include "longhaul/agent/shards.h"

namespace longhaul {

// A dataset of a job, as it was made durable.
struct ShardMemory {
  ShardPlan plan;
  std::vector<TaskRecord> rows;
};

// What an earlier life of this master knew.
struct ClusterMemory {
  uint32_t boot = 1;  // of this master, greater than that of any before on this state
  uint64_t life = 0;  // of the state, random: another one when it was wiped or put back from a copy
  // Not empty: the life has begun with this start, and why. Nothing that ran in the one before
  // counts any more.
  std::string new_life;
  uint64_t last_job = 0;
  std::vector<JobRecord> jobs;  // by number
  std::map<JobId, std::vector<TaskRecord>> tasks;
  std::map<JobId, std::map<std::string, std::string>> stores;
  std::map<JobId, std::map<std::string, ShardMemory>> shards;  // by dataset
  std::vector<WorkerRecord> workers;
};

}  // namespace longhaul

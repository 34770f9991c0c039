// What `longhaul map --retry-failed JOB` submits: the tasks of a job that ended without a result,
// as an array of their own.
#pragma once

#include <string>
#include <vector>

#include "apps/cli/commands/array_request.h"
#include "control/client/job_client.h"

namespace longhaul::cli {

// A task without a result: what it is called and what its input was.
struct FailedTask {
  uint64_t task = 0;
  std::string input;
};

// All of a job's, in its order. Errors: kInvalid (no such job, a gang, one that has not ended) and
// those of every call.
Result<std::vector<FailedTask>> failed_tasks(JobClient& client, const JobStatus& job);

// The same job with only these tasks, which keep their indices or inputs; without its name.
ArrayRequested retry_of(const JobStatus& job, std::vector<FailedTask> tasks);

// "3,5-9,12": numbers in this order, runs of them as ranges.
std::string as_ranges(const std::vector<FailedTask>& tasks);

}  // namespace longhaul::cli

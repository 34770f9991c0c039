// The failure report for people: who failed first, how we know, and what to do next.
#pragma once

#include <string>

#include "cluster/jobs/job.h"

namespace longhaul::cli {

// "rank 2", "ranks 0, 1 and 3".
std::string name_ranks(const std::vector<Rank>& ranks);

// Several lines, the last one ended; "" for a job without a failure. `has_master`: the job can
// still be asked about (`longhaul logs`), which a standalone one cannot.
std::string render_failure(const JobStatus& job, bool has_master);

}  // namespace longhaul::cli

// A job that does not move, for people: since when, who is behind, who waits, and what it is doing.
#pragma once

#include <string>

#include "cluster/jobs/job.h"

namespace longhaul::cli {

// "job j3: nothing has moved for 34.0s: rank 2 on w1 ... is behind, ..."; "" for one that moves.
std::string hang_line(const JobStatus& job, int64_t now_unix_ms);

// What the one that is behind is doing, several lines, the last one ended; "" as long as that is
// not known.
std::string hang_details(const JobStatus& job);

}  // namespace longhaul::cli

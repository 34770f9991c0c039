// The same for programs: one JSON document with "schema": 1. Fields are added, never changed.
#pragma once

#include <string>
#include <vector>

#include "control/client/job_client.h"

namespace longhaul::cli {

constexpr int kJsonSchema = 1;

// Each ends with a line end.
std::string jobs_json(const std::vector<JobStatus>& jobs);
std::string nodes_json(const std::vector<NodeInfo>& nodes);
std::string job_json(const JobStatus& job);
std::string explanation_json(const Explanation& explanation);
std::string event_json(const ClusterEvent& event);
// For `run --detach`: {"schema":1,"job":"j3"}.
std::string submitted_json(const JobId& job);

}  // namespace longhaul::cli

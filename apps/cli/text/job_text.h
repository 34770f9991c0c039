// Jobs and workers as tables for people: whatever names and messages hold, they steer no terminal.
#pragma once

#include <string>
#include <vector>

#include "control/client/job_client.h"

namespace longhaul::cli {

// `now_unix_ms`: for ages. `width`: columns of the terminal; what is too long for them is cut.
std::string render_jobs(const std::vector<JobStatus>& jobs, int64_t now_unix_ms, size_t width);
std::string render_nodes(const std::vector<NodeInfo>& nodes, int64_t now_unix_ms);
// Everything about one job: its ranks, progress and, when it failed, why.
std::string render_status(const JobStatus& job, int64_t now_unix_ms);

std::string render_explanation(const Explanation& explanation);
// One line.
std::string render_event(const ClusterEvent& event);

// The command as it could be typed into a shell (bash's $'...' where there are control characters).
std::string quote_command(const std::vector<std::string>& command);

}  // namespace longhaul::cli

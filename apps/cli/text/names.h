// States in words, the same for people and for JSON.
#pragma once

#include <string>
#include <string_view>

#include "cluster/jobs/job.h"
#include "cluster/workers/worker_table.h"
#include "control/client/job_client.h"

namespace longhaul::cli {

std::string_view name_of(RankState state);
// "ready", "draining" (it still runs something), "drained", "unreachable, drained", ...
std::string name_of(const NodeInfo& node);

}  // namespace longhaul::cli

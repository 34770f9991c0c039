// States in words, the same for people and for JSON.
#pragma once

#include <string>
#include <string_view>

#include "longhaul/control/job_client.h"
#include "longhaul/membership/job.h"
#include "longhaul/membership/worker_table.h"

namespace longhaul::cli {

std::string_view name_of(RankState state);
// "ready", "draining" (it still runs something), "drained", "unreachable, drained", ...
std::string name_of(const NodeInfo& node);

}  // namespace longhaul::cli

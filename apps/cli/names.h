// States in words, the same for people and for JSON.
#pragma once

#include <string_view>

#include "longhaul/membership/job.h"
#include "longhaul/membership/worker_table.h"

namespace longhaul::cli {

std::string_view name_of(RankState state);
std::string_view name_of(WorkerState state);

}  // namespace longhaul::cli

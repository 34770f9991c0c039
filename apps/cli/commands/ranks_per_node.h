// torchrun's --nproc-per-node auto|gpu|cpu, on a cluster: the workers say what they have.
#pragma once

#include <string>
#include <vector>

#include "control/client/job_client.h"

namespace longhaul::cli {

// How many ranks each of `node_count` workers can take: one for each GPU ("gpu"), for each slot
// ("cpu"), or "auto": for each GPU where enough workers have some, else for each slot. Counted are
// the largest workers that are ready and not drained, and what the smallest of these has; where
// there are fewer workers, all of them. Errors: kInvalid (no worker has any).
Result<int> ranks_per_node(const std::string& kind, std::vector<NodeInfo> nodes, int node_count);

// This machine as the only worker, for --standalone.
NodeInfo this_machine();

}  // namespace longhaul::cli

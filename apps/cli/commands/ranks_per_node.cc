#include "apps/cli/commands/ranks_per_node.h"

#include <algorithm>
#include <functional>
#include <thread>

#include "control/worker/host/host_resources.h"
#include "control/worker/process/rank_environment.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

// What the smallest of the `node_count` largest workers has (of all, where there are fewer),
// because every node of a job gets the same number of ranks. 0: it has none.
int common_count(const std::vector<NodeInfo>& nodes, int node_count, int NodeInfo::* what) {
  std::vector<int> counts;
  counts.reserve(nodes.size());
  for (const NodeInfo& node : nodes) counts.push_back(node.*what);
  std::sort(counts.begin(), counts.end(), std::greater<>());
  const size_t wanted = std::min(counts.size(), static_cast<size_t>(std::max(1, node_count)));
  return wanted == 0 ? 0 : counts[wanted - 1];
}

}  // namespace

Result<int> ranks_per_node(const std::string& kind, std::vector<NodeInfo> nodes, int node_count) {
  std::erase_if(nodes, [](const NodeInfo& node) {
    return node.state != WorkerState::kReady || node.drained;
  });
  const int gpus = kind == "cpu" ? 0 : common_count(nodes, node_count, &NodeInfo::gpus);
  if (gpus > 0) return gpus;
  const int slots = kind == "gpu" ? 0 : common_count(nodes, node_count, &NodeInfo::slots);
  if (slots > 0) return slots;
  return Failure{ErrorKind::kInvalid,
                 str_cat("--nproc-per-node ", kind, ": of the ", nodes.size(),
                         " workers that are ready, too few have ", kind == "gpu" ? "GPUs" : "slots",
                         " (`longhaul nodes` shows them); say a number")};
}

NodeInfo this_machine() {
  NodeInfo node;
  node.slots = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  node.gpus = static_cast<int>(usable_gpus(own_environment(), -1).size());
  return node;
}

}  // namespace longhaul::cli

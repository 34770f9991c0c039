#include "apps/cli/text/names.h"

namespace longhaul::cli {

std::string_view name_of(RankState state) {
  switch (state) {
    case RankState::kAssigned:
      return "assigned";
    case RankState::kSpawned:
      return "spawned";
    case RankState::kJoined:
      return "joined";
    case RankState::kLeft:
      return "left";
    case RankState::kExited:
      return "exited";
    case RankState::kLost:
      return "lost";
  }
  return "unknown";
}

std::string name_of(const NodeInfo& node) {
  const std::string state(to_string(node.state));
  if (!node.drained) return state;
  const std::string drain = node.empty_for_good() ? "drained" : "draining";
  return node.state == WorkerState::kReady ? drain : state + ", " + drain;
}

}  // namespace longhaul::cli

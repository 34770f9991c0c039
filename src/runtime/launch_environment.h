// torchrun's environment names, read and checked. A pure function of the variables.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "longhaul/agent/coordinator.h"
#include "longhaul/base/result.h"

namespace longhaul {

struct LaunchEnvironment {
  Placement placement;  // generation: torchrun's count of restarts
  std::string master_address;
  uint16_t master_port = 0;
  // Rank 0 serves the store, unless torchrun does (TORCHELASTIC_USE_AGENT_STORE).
  bool serves_store = false;
};

// The value of a variable, or nullopt when it is not set.
using ReadVariable = std::function<std::optional<std::string>(const char* name)>;

// nullopt: neither RANK nor WORLD_SIZE is set, this process is alone. Errors: kInvalid, naming the
// variable and its value.
Result<std::optional<LaunchEnvironment>> read_launch_environment(const ReadVariable& read);

}  // namespace longhaul

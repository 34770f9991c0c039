// The worker that launched this process, as a Coordinator.
#pragma once

#include <memory>

#include "longhaul/agent/coordinator.h"

namespace longhaul {

// Null when no worker launched this process. Errors (thrown): kInvalid when the environment names a
// worker wrongly, or when this library was built without the control plane.
std::unique_ptr<Coordinator> agent_from_environment();

}  // namespace longhaul

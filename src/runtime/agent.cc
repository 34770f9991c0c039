#include "runtime/agent.h"

#include <cstdlib>

#include "longhaul/base/error.h"

#ifdef LONGHAUL_WITH_AGENT_CLIENT

#include "longhaul/agent/client/agent_client.h"

namespace longhaul {

std::unique_ptr<Coordinator> agent_from_environment() {
  if (!AgentClient::in_environment()) return nullptr;
  return AgentClient::from_environment().value_or_throw();
}

}  // namespace longhaul

#else

namespace longhaul {

std::unique_ptr<Coordinator> agent_from_environment() {
  if (std::getenv("LONGHAUL_AGENT") == nullptr) return nullptr;
  throw Error(ErrorKind::kInvalid,
              "LONGHAUL_AGENT is set, but this Longhaul was built with LONGHAUL_CONTROL=OFF and "
              "cannot speak to a worker");
}

}  // namespace longhaul

#endif

// Who is to blame for a collective that failed: a pure decision. What Gloo says counts last,
// because it names the neighbour whose connection closed, which is often only another victim.
#pragma once

#include <optional>
#include <string>

#include "collectives/peer_monitor.h"
#include "longhaul/agent/ids.h"
#include "longhaul/base/clock.h"
#include "longhaul/collectives/communicator.h"

namespace longhaul {

struct Evidence {
  std::string backend_text;        // what the backend's exception said
  std::optional<PeerFault> fault;  // what the monitor saw or was told
  Rank left = -1;                  // left in order before this
  Rank silent = -1;
  std::optional<PeerMonitor::Laggard> laggard;
  milliseconds timeout = milliseconds(0);
};

// Whether a backend's text speaks of time that ran out, not of a connection that broke.
bool speaks_of_timeout(const std::string& backend_text);

// `operation` as OperationWatch::describe() gives it.
CollectiveError judge(Rank self, const std::string& operation, const Evidence& evidence);

}  // namespace longhaul

// The inside of a Communicator, for the other files of this room.
#pragma once

#include <memory>

#include "base/check.h"
#include "collectives/operation_watch.h"
#include "longhaul/collectives/communicator.h"

namespace longhaul {

class WatchedCommunicator : public Communicator {
 public:
  virtual const std::shared_ptr<OperationWatch>& watch() const = 0;
};

// Precondition: `communicator` came from Communicator::create().
inline const std::shared_ptr<OperationWatch>& watch_of(const Communicator& communicator) {
  const auto* watched = dynamic_cast<const WatchedCommunicator*>(&communicator);
  LONGHAUL_CHECK(watched);
  return watched->watch();
}

}  // namespace longhaul

// Communicator::create() for whoever may have less time to meet the others than a collective may
// take.
#pragma once

#include <memory>

#include "longhaul/base/clock.h"
#include "longhaul/collectives/communicator.h"

namespace longhaul {

// As Communicator::create(), but waits for the other ranks no longer than `patience`. Fails with
// kind kUnavailable when the store goes away before all have come.
std::shared_ptr<Communicator> create_communicator(c10::intrusive_ptr<c10d::Store> store,
                                                  const CommunicatorOptions& options,
                                                  milliseconds patience);

}  // namespace longhaul

// How many slots the worker's descriptors are enough for, so that none of them is lacking in the
// middle of a job.
#pragma once

#include <algorithm>
#include <cstdint>

namespace longhaul {

// A running rank: its folder, its ledger, its shim's pidfd and socket, a segment of each stream,
// its connection to the agent socket; one more while its shim starts.
constexpr uint64_t kDescriptorsPerSlot = 8;
// gRPC, the connection to the master, the state folder, results on their way, lists of folders.
constexpr uint64_t kReservedDescriptors = 96;

// At least one.
constexpr int slots_that_fit(uint64_t descriptors) {
  const uint64_t free = descriptors - std::min(descriptors, kReservedDescriptors);
  return static_cast<int>(std::clamp<uint64_t>(free / kDescriptorsPerSlot, 1, 1 << 20));
}

}  // namespace longhaul

// The words of a job, as types (docs/architecture.md, "Words").
#pragma once

#include <cstdint>
#include <string>

namespace longhaul {

// One trainer among the ranks of a world: 0 <= rank < world size.
using Rank = int;

// Membership number of a world. It only grows, and every message of the data plane carries it, so
// that bytes of an older world are recognised and dropped.
using Generation = uint64_t;

using JobId = std::string;  // "j" and a number: "j7"
using WorkerId =
    std::string;  // chosen by the operator or made from the host name: "gpu-a", "gpu-a-2"

}  // namespace longhaul

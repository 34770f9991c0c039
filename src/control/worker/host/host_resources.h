// What of this host ranks may use beside its cores: GPUs and memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "control/worker/process/rank_environment.h"

namespace longhaul {

// How CUDA calls the GPUs that this worker may give away, in order. `limit` < 0: those of the
// worker's own CUDA_VISIBLE_DEVICES when it is set, else one for each NVIDIA device in /dev.
// Otherwise so many of them, or of 0, 1, ... where there are fewer.
std::vector<std::string> usable_gpus(const Environment& environment, int limit);

// The host's memory, or what the limits of this process's cgroups (v1 or v2) leave of it, in bytes;
// 0 where that cannot be told. `root`: where proc and sys are mounted.
uint64_t usable_memory(const std::string& root = "");

// CUDA_VISIBLE_DEVICES for a rank that was granted these; numbers that the worker does not have
// name themselves.
std::string visible_gpus(const std::vector<std::string>& names, const std::vector<int>& granted);

}  // namespace longhaul

// Why a rank cannot begin to train a model with these options: a pure check, before anything is
// said to other ranks.
#pragma once

#include <c10/core/Device.h>

#include <string>

#include "ddp/wrapped_parameters.h"
#include "longhaul/ddp/options.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace longhaul {

// Empty when it can. `size`: of the world.
std::string find_problem(const torch::nn::Module& module, const TrainedParameters& trained,
                         const DistributedDataParallelOptions& options, c10::Device device,
                         int size);
// The first buffer that cannot be set to rank 0's, and why; empty when there is none.
std::string find_buffer_problem(const NamedTensors& buffers);

}  // namespace longhaul

// Training loops as people write them, tiny: the rows of the matrix that bench/ddp_matrix.cc runs
// and bench/peers/ddp_scenarios.py repeats line by line under Python's DistributedDataParallel.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "longhaul/collectives/communicator.h"
#include "longhaul/ddp/options.h"

namespace longhaul::bench {

// One wrapped model and its loop. Everything random comes from seeds of (rank, step), so that
// ranks see different data and both languages the same.
class Scenario {
 public:
  virtual ~Scenario() = default;
  // Forward and backward passes of one step, gradients cleared before as the loop does it. Throws
  // what DistributedDataParallel throws.
  virtual void step(int64_t step) = 0;
  virtual torch::nn::Module& model() = 0;
};

// Each once, by its first name, as Python's named_parameters() gives them.
std::vector<std::pair<std::string, torch::Tensor>> unique_parameters(
    const torch::nn::Module& module);

// Builds the model with the same bits everywhere and wraps it. Collective.
std::unique_ptr<Scenario> make_scenario(const std::string& name,
                                        const std::shared_ptr<Communicator>& world,
                                        const DistributedDataParallelOptions& options);

}  // namespace longhaul::bench

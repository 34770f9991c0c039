// Makes the c10d::Reducer of a model as PyTorch's Python class does, to the bucket. The one file
// that knows how the Reducer's constructor differs between releases of libtorch.
#pragma once

#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <memory>
#include <vector>

#include "longhaul/ddp/options.h"

namespace longhaul {

// Parameters that get gradients, each once, in the order of the model's modules; beside each,
// whether its gradient is sparse (torch::nn::Embedding with sparse(true)), and its name.
struct TrainedParameters {
  std::vector<at::Tensor> tensors;
  std::vector<bool> expect_sparse;
  std::vector<std::string> names;
};

std::unique_ptr<c10d::Reducer> make_reducer(
    const TrainedParameters& parameters,
    const c10::intrusive_ptr<c10d::ProcessGroup>& process_group,
    const DistributedDataParallelOptions& options);

}  // namespace longhaul

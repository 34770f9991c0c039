// Makes the c10d::Reducer of a model as PyTorch's Python class does, to the bucket. The one file
// that knows how the Reducer's constructor differs between releases of libtorch.
#pragma once

#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <memory>
#include <mutex>
#include <vector>

#include "ddp/wrapped_parameters.h"
#include "longhaul/ddp/options.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace longhaul {

// A Reducer that says how far it is. Its methods take the Reducer's lock, all but gradient_of(); so
// they must not be called from a communication hook, which runs under that lock.
class WatchedReducer final : public c10d::Reducer {
 public:
  using c10d::Reducer::Reducer;

  // From prepare_for_backward() until all gradients are reduced.
  bool expects_gradients() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return expect_autograd_hooks_;
  }
  // Whether the next rebuild_buckets() has something to do, which every rank must do with it.
  bool is_to_rebuild_buckets() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return should_rebuild_buckets() && !rebuilt_params_.empty();
  }
  // With find_unused_parameters: those on which the last outputs do not depend.
  std::vector<size_t> unused_parameters() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return unused_parameters_;
  }
  // With skip_all_reduce_unused_params: those whose buckets are left out of the coming reduction,
  // because the last outputs depend on nothing in them.
  std::vector<size_t> skipped_parameters() const;
  // Undefined while it has none.
  const at::Tensor& gradient_of(size_t parameter) const { return params_[parameter].grad(); }
};

std::shared_ptr<WatchedReducer> make_reducer(
    const TrainedParameters& parameters,
    const c10::intrusive_ptr<c10d::ProcessGroup>& process_group,
    const DistributedDataParallelOptions& options);

// PyTorch's record of a wrapped model's figures. The Reducer writes into it and crashes without:
// keep it as long as the Reducer.
std::shared_ptr<c10d::Logger> make_logger(const std::shared_ptr<WatchedReducer>& reducer,
                                          const torch::nn::Module& module,
                                          const DistributedDataParallelOptions& options);

}  // namespace longhaul

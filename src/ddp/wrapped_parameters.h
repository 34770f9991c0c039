// The parameters that DDP reduces, and whether the model still has them: loading a checkpoint,
// model->to(dtype), freezing, replacing or adding parameters leave hooks on what is no longer used.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace longhaul {

// Parameters that get gradients, each once, in the order of the model's modules; beside each,
// whether its gradient is sparse (torch::nn::Embedding with sparse(true)), and its name.
struct TrainedParameters {
  std::vector<at::Tensor> tensors;
  std::vector<bool> expect_sparse;
  std::vector<std::string> names;
};

// Without those named in `left_out`.
TrainedParameters trained_parameters(const torch::nn::Module& root,
                                     const std::vector<std::string>& left_out = {});

class HookedParameters {
 public:
  // Remembers what the model has now. Call it when hooks are in place, which keep gradient
  // accumulators alive.
  // Those named in `left_out` may change as they like.
  explicit HookedParameters(const torch::nn::Module& root,
                            const std::vector<std::string>& left_out = {});

  struct Change {
    std::string what;             // "parameter 'fc.weight' was frozen"
    bool trains_nothing = false;  // all parameters are frozen: there is nothing to reduce
  };
  // What is no longer as it was; nullopt: hooks are where they should be.
  std::optional<Change> change(const torch::nn::Module& root) const;

  // A number that is the same on all ranks if they changed their parameters in the same way since
  // the last call: optimizer steps, loads into place, replaced memory.
  uint64_t count_changes();

 private:
  struct Entry {
    std::string name;
    at::Tensor tensor;
    bool left_out = false;
    bool trained = false;
    at::TensorOptions options;
    std::vector<int64_t> sizes;
    const void* accumulator = nullptr;  // where the gradient goes; null when frozen
    const void* memory = nullptr;
    uint32_t version = 0;  // of the tensor, which in-place operations count up
  };
  static uint32_t version_of(const at::Tensor& tensor);
  static Entry entry_of(const at::Tensor& parameter);
  static std::string describe(const Entry& before, const Entry& now);

  std::vector<Entry> entries_;
};

}  // namespace longhaul

// What a training loop needs beside the model: optimizer, learning-rate schedule, scoring,
// gradients on disk. Plain libtorch: nothing here knows how many ranks there are.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>

#include "examples/char_gpt/model.h"
#include "examples/char_gpt/options.h"
#include "examples/char_gpt/windows.h"

namespace char_gpt {

// AdamW as GPTs are trained: weight decay on matrices only.
std::unique_ptr<torch::optim::AdamW> make_optimizer(const Gpt& model, const Options& options);

// Linear warm-up over the first tenth of the steps (at most 100), then a cosine down to a tenth of
// the peak. `step` counts from 1.
double learning_rate(int64_t step, const Options& options);
void set_learning_rate(torch::optim::Optimizer& optimizer, double rate);

// Sum of the losses per byte, and how many bytes, over this rank's share of the held-out windows.
struct LossSum {
  double sum = 0;
  int64_t bytes = 0;
};
LossSum held_out_loss(Gpt& model, const HeldOutWindows& windows, int rank, int world_size,
                      const torch::Device& device);

// 64-bit FNV-1a over the bytes of all parameters, in their order.
uint64_t parameter_hash(const torch::nn::Module& model);

// Writes the gradients of `loss` for all parameters, in their order, into one file of little-endian
// fp32: <folder>/step_<step>.f32. Leaves the parameters' own gradients alone. Throws on an I/O
// error.
void dump_gradients(const torch::Tensor& loss, const torch::nn::Module& model,
                    const std::string& folder, int64_t step);

}  // namespace char_gpt

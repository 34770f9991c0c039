// Two small trainings that bench/peers/reference_training.py repeats line by line in Python: the
// same modules built in the same order (so that the same seed gives the same bits), the same data
// from the same generator, the same optimizers. What is compared is everything between:
// DistributedDataParallel.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "longhaul/collectives/communicator.h"

namespace longhaul::bench {

// Linear, batch norm and ReLU, three deep: parameters and buffers of mixed sizes.
struct MlpImpl : torch::nn::Module {
  MlpImpl();
  torch::Tensor forward(torch::Tensor x);  // [batch, 32] -> [batch, 10]

  torch::nn::Linear first, second, last;
  torch::nn::BatchNorm1d first_norm, second_norm;
};
TORCH_MODULE(Mlp);

struct TransformerShape {
  int64_t vocabulary;
  int64_t width;
  int64_t heads;
  int64_t layers;
};

struct TransformerBlockImpl : torch::nn::Module {
  explicit TransformerBlockImpl(const TransformerShape& shape);
  torch::Tensor forward(const torch::Tensor& x);

  int64_t heads;
  torch::nn::LayerNorm first_norm, second_norm;
  torch::nn::Linear joined, mixed, wide, narrow;
};
TORCH_MODULE(TransformerBlock);

struct TransformerImpl : torch::nn::Module {
  explicit TransformerImpl(const TransformerShape& shape);
  torch::Tensor forward(const torch::Tensor& tokens);  // [batch, time] -> [batch, time, vocabulary]

  torch::nn::Embedding embedding;
  torch::nn::ModuleList blocks;
  torch::nn::Linear head;
};
TORCH_MODULE(Transformer);

// The shape of the parity run, and the larger one whose steps are timed.
constexpr TransformerShape kParityShape = {61, 48, 4, 2};
constexpr TransformerShape kTimedShape = {256, 256, 8, 4};

// Random [batch, time] tokens for inputs and targets.
std::pair<torch::Tensor, torch::Tensor> token_batch(const TransformerShape& shape, int64_t batch,
                                                    int64_t time, uint64_t seed);
torch::Tensor token_loss(const torch::Tensor& logits, const torch::Tensor& targets);

// A state after training: parameters, then buffers, in the model's order.
using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

// Trains under DistributedDataParallel with codec none and several buckets. `name`: "mlp_sgd" or
// "transformer_adamw". Collective. Ranks may be threads of one process.
NamedTensors train_reference(std::string_view name, const std::shared_ptr<Communicator>& world,
                             int64_t steps);

}  // namespace longhaul::bench

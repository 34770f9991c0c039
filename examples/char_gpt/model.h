// A small GPT over bytes: token and position embeddings, pre-norm blocks of causal attention and a
// four times wider GELU layer, a final norm and a linear head (Radford et al. 2019; nanoGPT's
// model.py).
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <random>
#include <string>

namespace char_gpt {

struct GptShape {
  int64_t context;
  int64_t layers;
  int64_t heads;
  int64_t width;
};

struct BlockImpl : torch::nn::Module {
  explicit BlockImpl(const GptShape& shape);
  torch::Tensor forward(const torch::Tensor& x);  // [batch, time, width] -> the same

  int64_t heads;
  torch::nn::LayerNorm attention_norm, wide_norm;
  torch::nn::Linear query_key_value, attention_out, wide_in, wide_out;

 private:
  torch::Tensor attend(const torch::Tensor& x);
};
TORCH_MODULE(Block);

struct GptImpl : torch::nn::Module {
  explicit GptImpl(const GptShape& shape);
  // [batch, time <= context] of byte values -> logits [batch, time, 256].
  torch::Tensor forward(const torch::Tensor& bytes);

  GptShape shape;
  torch::nn::Embedding token_embedding, position_embedding;
  torch::nn::ModuleList blocks;
  torch::nn::LayerNorm norm;
  torch::nn::Linear head;
};
TORCH_MODULE(Gpt);

// Mean cross-entropy per byte, in nats.
torch::Tensor mean_loss(const torch::Tensor& logits, const torch::Tensor& targets);

// Continues `prompt` by `count` bytes, each drawn from the model's distribution.
std::string generate(Gpt& model, const std::string& prompt, int64_t count, std::mt19937_64& random);

}  // namespace char_gpt

#include "examples/char_gpt/model.h"

#include <algorithm>
#include <cmath>

namespace char_gpt {
namespace {

constexpr int64_t kByteValues = 256;
constexpr double kInitialDeviation = 0.02;  // GPT-2's
constexpr double kTemperature = 0.8;

torch::nn::LayerNorm layer_norm(int64_t width) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({width}));
}

torch::nn::Linear linear(int64_t in, int64_t out) {
  torch::nn::Linear layer(torch::nn::LinearOptions(in, out).bias(false));
  torch::nn::init::normal_(layer->weight, 0, kInitialDeviation);
  return layer;
}

// A layer that adds to the residual stream starts smaller the more of them there are.
torch::nn::Linear residual_linear(int64_t in, int64_t out, int64_t layers) {
  torch::nn::Linear layer(torch::nn::LinearOptions(in, out).bias(false));
  const double deviation = kInitialDeviation / std::sqrt(2.0 * static_cast<double>(layers));
  torch::nn::init::normal_(layer->weight, 0, deviation);
  return layer;
}

torch::nn::Embedding embedding(int64_t count, int64_t width) {
  torch::nn::Embedding layer(count, width);
  torch::nn::init::normal_(layer->weight, 0, kInitialDeviation);
  return layer;
}

}  // namespace

BlockImpl::BlockImpl(const GptShape& shape)
    : heads(shape.heads),
      attention_norm(register_module("attention_norm", layer_norm(shape.width))),
      wide_norm(register_module("wide_norm", layer_norm(shape.width))),
      query_key_value(register_module("query_key_value", linear(shape.width, 3 * shape.width))),
      attention_out(register_module("attention_out",
                                    residual_linear(shape.width, shape.width, shape.layers))),
      wide_in(register_module("wide_in", linear(shape.width, 4 * shape.width))),
      wide_out(register_module("wide_out",
                               residual_linear(4 * shape.width, shape.width, shape.layers))) {}

torch::Tensor BlockImpl::attend(const torch::Tensor& x) {
  const int64_t batch = x.size(0);
  const int64_t time = x.size(1);
  const int64_t width = x.size(2);
  // [batch, time, 3 * width] -> three of [batch, heads, time, width / heads]
  const torch::Tensor joined =
      query_key_value(x).view({batch, time, 3, heads, width / heads}).permute({2, 0, 3, 1, 4});
  const torch::Tensor mixed = at::scaled_dot_product_attention(
      joined[0], joined[1], joined[2], /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true);
  return attention_out(mixed.transpose(1, 2).reshape({batch, time, width}));
}

torch::Tensor BlockImpl::forward(const torch::Tensor& x) {
  const torch::Tensor attended = x + attend(attention_norm(x));
  return attended + wide_out(torch::gelu(wide_in(wide_norm(attended)), "tanh"));
}

GptImpl::GptImpl(const GptShape& shape_in)
    : shape(shape_in),
      token_embedding(register_module("token_embedding", embedding(kByteValues, shape.width))),
      position_embedding(
          register_module("position_embedding", embedding(shape.context, shape.width))),
      blocks(register_module("blocks", torch::nn::ModuleList())),
      norm(register_module("norm", layer_norm(shape.width))),
      head(register_module("head", linear(shape.width, kByteValues))) {
  for (int64_t i = 0; i < shape.layers; ++i) blocks->push_back(Block(shape));
}

torch::Tensor GptImpl::forward(const torch::Tensor& bytes) {
  const torch::Tensor positions =
      torch::arange(bytes.size(1), torch::dtype(torch::kInt64).device(bytes.device()));
  torch::Tensor x = token_embedding(bytes) + position_embedding(positions);
  for (const auto& block : *blocks) x = block->as<Block>()->forward(x);
  return head(norm(x));
}

torch::Tensor mean_loss(const torch::Tensor& logits, const torch::Tensor& targets) {
  return torch::nn::functional::cross_entropy(logits.flatten(0, 1), targets.flatten());
}

std::string generate(Gpt& model, const std::string& prompt, int64_t count,
                     std::mt19937_64& random) {
  const torch::NoGradGuard no_grad;
  const torch::Device device = model->head->weight.device();
  std::string text = prompt;
  for (int64_t i = 0; i < count; ++i) {
    const auto time = std::min(static_cast<int64_t>(text.size()), model->shape.context);
    const torch::Tensor window = torch::empty({1, time}, torch::kInt64);
    for (int64_t t = 0; t < time; ++t) {
      window[0][t] = static_cast<int64_t>(static_cast<unsigned char>(text[text.size() - time + t]));
    }
    const torch::Tensor logits = model->forward(window.to(device)).select(1, -1).flatten();
    const torch::Tensor weights =
        torch::softmax(logits.to(torch::kCPU, torch::kFloat64) / kTemperature, 0);
    const auto* begin = weights.const_data_ptr<double>();
    std::discrete_distribution<int> choice(begin, begin + kByteValues);
    text.push_back(static_cast<char>(choice(random)));
  }
  return text.substr(prompt.size());
}

}  // namespace char_gpt

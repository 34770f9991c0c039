#include "examples/char_gpt/training.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numbers>
#include <stdexcept>
#include <vector>

namespace char_gpt {
namespace {

constexpr double kWeightDecay = 0.1;
constexpr double kLastRate = 0.1;  // of the peak
constexpr int64_t kScoreRows = 32;

}  // namespace

std::unique_ptr<torch::optim::AdamW> make_optimizer(const Gpt& model, const Options& options) {
  std::vector<torch::Tensor> matrices;
  std::vector<torch::Tensor> vectors;
  for (const torch::Tensor& parameter : model->parameters()) {
    (parameter.dim() > 1 ? matrices : vectors).push_back(parameter);
  }
  const auto group = [&](std::vector<torch::Tensor> parameters, double weight_decay) {
    auto settings = std::make_unique<torch::optim::AdamWOptions>(options.learning_rate);
    settings->betas({0.9, 0.95}).weight_decay(weight_decay);
    return torch::optim::OptimizerParamGroup(std::move(parameters), std::move(settings));
  };
  const std::vector<torch::optim::OptimizerParamGroup> groups = {group(matrices, kWeightDecay),
                                                                 group(vectors, 0)};
  return std::make_unique<torch::optim::AdamW>(groups);
}

double learning_rate(int64_t step, const Options& options) {
  const auto warm_up = static_cast<double>(std::clamp<int64_t>(options.steps / 10, 1, 100));
  const auto now = static_cast<double>(step);
  if (now <= warm_up) return options.learning_rate * now / warm_up;
  const double done = (now - warm_up) / std::max(1.0, static_cast<double>(options.steps) - warm_up);
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * done));
  return options.learning_rate * (kLastRate + (1 - kLastRate) * cosine);
}

void set_learning_rate(torch::optim::Optimizer& optimizer, double rate) {
  for (auto& group : optimizer.param_groups()) group.options().set_lr(rate);
}

LossSum held_out_loss(Gpt& model, const HeldOutWindows& windows, int rank, int world_size,
                      const torch::Device& device) {
  const torch::NoGradGuard no_grad;
  LossSum loss;
  const int64_t end = windows.size() * (rank + 1) / world_size;
  for (int64_t begin = windows.size() * rank / world_size; begin < end; begin += kScoreRows) {
    const Batch batch = windows.range(begin, std::min(begin + kScoreRows, end));
    const torch::Tensor logits = model->forward(batch.inputs.to(device));
    const int64_t bytes = batch.targets.numel();
    loss.sum += mean_loss(logits, batch.targets.to(device)).item<double>() * bytes;
    loss.bytes += bytes;
  }
  return loss;
}

uint64_t parameter_hash(const torch::nn::Module& model) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const torch::Tensor& parameter : model.parameters()) {
    const torch::Tensor values = parameter.detach().to(torch::kCPU).contiguous();
    const auto* bytes = static_cast<const unsigned char*>(values.const_data_ptr());
    for (size_t i = 0; i < values.nbytes(); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3;
  }
  return hash;
}

void dump_gradients(const torch::Tensor& loss, const torch::nn::Module& model,
                    const std::string& folder, int64_t step) {
  std::filesystem::create_directories(folder);
  const std::string path = folder + "/step_" + std::to_string(step) + ".f32";
  std::ofstream file(path, std::ios::binary);
  const auto gradients =
      torch::autograd::grad({loss}, model.parameters(), /*grad_outputs=*/{}, /*retain_graph=*/true);
  for (const torch::Tensor& gradient : gradients) {
    const torch::Tensor values = gradient.to(torch::kCPU, torch::kFloat32).contiguous();
    file.write(static_cast<const char*>(values.const_data_ptr()),
               static_cast<std::streamsize>(values.nbytes()));
  }
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

}  // namespace char_gpt

// Small models, data and loops for the tests of DDP. Everything random comes from a generator with
// a seed of its own: ranks are threads here and share torch's global one.
#pragma once

#include <torch/torch.h>

#include <cstring>
#include <string>
#include <vector>

#include "longhaul/ddp/distributed_data_parallel.h"
#include "tests/support/cluster.h"

namespace longhaul::testing {

// Odd sizes, so that buckets do not divide evenly.
struct MlpImpl : torch::nn::Module {
  explicit MlpImpl(int64_t hidden = 17) {
    first = register_module("first", torch::nn::Linear(7, hidden));
    second = register_module("second", torch::nn::Linear(hidden, 3));
  }
  torch::Tensor forward(const torch::Tensor& input) {
    return second->forward(torch::tanh(first->forward(input)));
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
};
TORCH_MODULE(Mlp);

inline at::Generator generator(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

inline void fill(torch::nn::Module& module, uint64_t seed) {
  torch::NoGradGuard no_grad;
  auto random = generator(seed);
  for (auto& parameter : module.parameters()) parameter.uniform_(-0.5, 0.5, random);
}

inline torch::Tensor batch_of(Rank rank, int64_t step, int64_t rows = 5) {
  auto random = generator(1000 + 100 * static_cast<uint64_t>(step) + static_cast<uint64_t>(rank));
  return torch::empty({rows, 7}).uniform_(-1, 1, random);
}

// Any function of the output with interesting gradients.
inline torch::Tensor loss_of(const torch::Tensor& output) {
  return output.square().mean() + output.mean();
}

inline std::vector<torch::Tensor> gradients_of(const torch::nn::Module& module) {
  std::vector<torch::Tensor> gradients;
  for (const auto& parameter : module.parameters())
    gradients.push_back(parameter.grad().defined() ? parameter.grad().clone() : torch::Tensor());
  return gradients;
}

inline std::vector<torch::Tensor> copies(const std::vector<torch::Tensor>& tensors) {
  std::vector<torch::Tensor> result;
  result.reserve(tensors.size());
  for (const auto& tensor : tensors) result.push_back(tensor.detach().clone());
  return result;
}

// NaNs of the same bits are equal here.
inline bool same_bits(const torch::Tensor& a, const torch::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  const torch::Tensor x = a.contiguous();
  const torch::Tensor y = b.contiguous();
  return x.dtype() == y.dtype() && x.sizes() == y.sizes() &&
         std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

inline void expect_same_bits(const std::vector<torch::Tensor>& a,
                             const std::vector<torch::Tensor>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_TRUE(same_bits(a[i], b[i])) << what << ": tensor " << i;
}

inline CodecSpec codec(const std::string& name) {
  return CodecSpec::parse(name).value_or_throw();
}

}  // namespace longhaul::testing

// What a reduction should give, made from the inputs without anything of the library's.
#pragma once

#include <torch/torch.h>

#include <cstring>
#include <vector>

namespace longhaul::testing {

inline at::Tensor gradient(uint64_t seed, int64_t count, at::ScalarType type) {
  auto generator = at::detail::createCPUGenerator(seed);
  return (torch::randn({count}, generator) * 0.01).to(type);
}

// The rank-order sum, in the types that the header promises; nothing of the library's is used.
inline at::Tensor reference_sum(const std::vector<at::Tensor>& inputs, double scale) {
  const at::ScalarType type = inputs[0].scalar_type();
  const at::ScalarType sum_type = type == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor sum = inputs[0].to(sum_type).clone();
  for (size_t rank = 1; rank < inputs.size(); ++rank) sum = sum + inputs[rank].to(sum_type);
  return (sum * torch::scalar_tensor(scale, sum_type)).to(type);
}

inline bool equal_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.numel() == b.numel() &&
         std::memcmp(a.data_ptr(), b.data_ptr(), a.numel() * a.element_size()) == 0;
}

}  // namespace longhaul::testing

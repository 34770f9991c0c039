// The device that these tests run on: the first GPU where there is one, else the CPU. So the same
// bodies run everywhere, and on a GPU they try what CPU tensors do not need: streams, events, and
// the way over the host's memory.
#pragma once

#include <torch/cuda.h>
#include <torch/torch.h>

#include <cstring>
#include <stdexcept>
#include <string>

namespace longhaul::testing {

inline c10::Device test_device() {
  if (torch::cuda::is_available()) return c10::Device(c10::DeviceType::CUDA, 0);
  return c10::Device(c10::DeviceType::CPU);
}

// Gradients in `type`, the same for the same seed.
inline at::Tensor gradient(uint64_t seed, int64_t count, at::ScalarType type) {
  auto generator = at::detail::createCPUGenerator(seed);
  return (torch::randn({count}, generator) * 0.01).to(type);
}

// In a rank that is a process: what is thrown there is what the test shows.
inline void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

inline bool equal_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor left = a.detach().cpu().contiguous();
  const at::Tensor right = b.detach().cpu().contiguous();
  return left.scalar_type() == right.scalar_type() && left.numel() == right.numel() &&
         std::memcmp(left.data_ptr(), right.data_ptr(), left.nbytes()) == 0;
}

}  // namespace longhaul::testing

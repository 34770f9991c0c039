// Windows of text as tensors: inputs and, shifted by one byte, what the model should say next.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

#include "examples/char_gpt/bigram.h"

namespace char_gpt {

// Both of shape [windows, context], int64 byte values.
struct Batch {
  torch::Tensor inputs;
  torch::Tensor targets;
};

// Draws training windows at random places. Ranks draw different ones: the seed includes the rank.
class RandomWindows {
 public:
  // `text` must outlive this object and hold more than `context` bytes.
  RandomWindows(std::string_view text, int64_t batch, int64_t context, int64_t seed, int rank);
  Batch next();

 private:
  std::string_view text_;
  int64_t batch_;
  int64_t context_;
  std::mt19937_64 random_;
};

// At most `count` windows spread evenly over the held-out text; the same ones on every rank.
class HeldOutWindows {
 public:
  HeldOutWindows(std::string_view text, int64_t context, int64_t count);

  int64_t size() const { return static_cast<int64_t>(starts_.size()); }
  Batch range(int64_t begin, int64_t end) const;
  // Mean loss per byte over all the windows, in nats.
  double score(const BigramModel& bigram) const;

 private:
  std::string_view text_;
  int64_t context_;
  std::vector<int64_t> starts_;
};

}  // namespace char_gpt

// One rank of an all-reduce that is timed: a bucket of made-up gradients (blocks of very different
// scale, as tensors have), through a codec or as Gloo does it.
//
// usage: allreduce [--codec SPEC] BYTES WARMUP RUNS   (rank and world from the environment;
// without a codec: Gloo's own fp32 all-reduce)
//
// Rank 0 prints one line: "MILLISECONDS SENT FORMULA ERROR": the median time, bytes that a rank
// sends (mean over ranks), what 2(n-1)/n S/ratio says with the codec's ratio on the ranks' own
// buckets, and the result's error against the exact mean, relative to its RMS.
#include <torch/torch.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "longhaul/codec/codec.h"
#include "longhaul/collectives/compressed_allreduce.h"
#include "longhaul/runtime/world.h"

namespace longhaul::bench {
namespace {

torch::Tensor made_up_gradients(int64_t count, int rank) {
  const torch::Generator shared = at::make_generator<at::CPUGeneratorImpl>(7);
  const torch::Generator own = at::make_generator<at::CPUGeneratorImpl>(100 + rank);
  constexpr int64_t kTensor = 4096;  // elements of one scale
  const int64_t tensors = (count + kTensor - 1) / kTensor;
  const torch::Tensor scales = torch::exp(2 * torch::randn({tensors, 1}, shared)) * 1e-3;
  // Half of a gradient is what all ranks share, half is the noise of their batch.
  const torch::Tensor signal = torch::randn({tensors, kTensor}, shared);
  const torch::Tensor noise = torch::randn({tensors, kTensor}, own);
  return ((signal + noise) * scales).flatten().narrow(0, 0, count).contiguous();
}

// Bytes of the bucket through the codec, alone.
double payload_bytes(const CodecSpec& spec, const torch::Tensor& bucket) {
  const std::unique_ptr<Codec> codec = make_codec(spec);
  const auto count = static_cast<size_t>(bucket.numel());
  std::vector<uint8_t> payload(codec->max_payload_bytes(ElementType::kFloat32, count));
  const ByteSpan elements{static_cast<const uint8_t*>(bucket.const_data_ptr()),
                          count * sizeof(float)};
  return static_cast<double>(codec->encode(ElementType::kFloat32, elements, payload, {}));
}

void sum_over_ranks(const World& world, torch::Tensor tensor) {
  std::vector<at::Tensor> tensors = {std::move(tensor)};
  world.communicator()->process_group()->allreduce(tensors)->wait();
}

struct Plan {
  bool compressed = false;
  CodecSpec codec;
  int64_t bytes = 0, warmup = 0, runs = 0;
};

void time_allreduce(const World& world, const Plan& plan) {
  const std::shared_ptr<Communicator>& communicator = world.communicator();
  const auto ranks = static_cast<double>(world.size());
  const torch::Tensor bucket = made_up_gradients(plan.bytes / 4, world.rank());
  torch::Tensor exact = bucket.to(torch::kDouble);
  sum_over_ranks(world, exact);
  exact /= ranks;

  std::unique_ptr<CompressedAllreduce> allreduce;
  if (plan.compressed) {
    allreduce = std::make_unique<CompressedAllreduce>(communicator, std::vector{plan.codec});
  }
  torch::Tensor result;
  std::vector<double> milliseconds;
  uint64_t sent_before = 0;
  for (int64_t i = 0; i < plan.warmup + plan.runs; ++i) {
    result = bucket.clone();
    sum_over_ranks(world, torch::ones({1}));  // all start together
    if (i == plan.warmup) sent_before = communicator->traffic().counts().bytes_sent;
    const auto start = std::chrono::steady_clock::now();
    if (plan.compressed) {
      const auto future = allreduce->start(result, 1 / ranks, static_cast<uint64_t>(i), 0);
      future->waitAndThrow();
    } else {
      sum_over_ranks(world, result);
      result /= ranks;
    }
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - start;
    if (i >= plan.warmup) milliseconds.push_back(taken.count());
  }
  const uint64_t sent = communicator->traffic().counts().bytes_sent - sent_before;
  const double payload =
      plan.compressed ? payload_bytes(plan.codec, bucket) : static_cast<double>(plan.bytes);
  const torch::Tensor counted =
      torch::tensor({static_cast<double>(sent) / static_cast<double>(plan.runs),
                     2 * (ranks - 1) / ranks * payload},
                    torch::kDouble);
  sum_over_ranks(world, counted);
  if (world.rank() != 0) return;
  std::nth_element(milliseconds.begin(), milliseconds.begin() + plan.runs / 2, milliseconds.end());
  const double error = ((result - exact).norm() / exact.norm()).item<double>();
  std::cout << milliseconds[static_cast<size_t>(plan.runs / 2)] << " "
            << counted[0].item<double>() / ranks << " " << counted[1].item<double>() / ranks << " "
            << error << "\n";
}

int run(std::vector<std::string> arguments) {
  Plan plan;
  if (arguments.size() > 2 && arguments[0] == "--codec") {
    plan.compressed = true;
    plan.codec = CodecSpec::parse(arguments[1]).value_or_throw();
    arguments.erase(arguments.begin(), arguments.begin() + 2);
  }
  if (arguments.size() != 3) {
    std::cerr << "usage: allreduce [--codec SPEC] BYTES WARMUP RUNS\n";
    return 64;
  }
  plan.bytes = std::stoll(arguments[0]);
  plan.warmup = std::stoll(arguments[1]);
  plan.runs = std::stoll(arguments[2]);
  torch::set_num_threads(1);
  time_allreduce(init(), plan);
  return 0;
}

}  // namespace
}  // namespace longhaul::bench

int main(int argc, char** argv) {
  try {
    return longhaul::bench::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "allreduce: " << error.what() << "\n";
    return 1;
  }
}

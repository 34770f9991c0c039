// One rank of a training whose loss is watched: the transformer of bench/ddp_step.cc learns the
// bytes of a file under AdamW, as bench/peers/learning.py does it under Python's DDP, with the same
// first parameters and the same windows. Prints, on rank 0, "STEP LOSS" of a held-out part every
// so many steps.
//
// usage: learning [--codec SPEC] TEXT STEPS EVERY BATCH TIME (rank and world from the environment)
#include <torch/torch.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "bench/reference_training.h"
#include "longhaul/ddp/distributed_data_parallel.h"
#include "longhaul/runtime/world.h"

namespace longhaul::bench {
namespace {

constexpr int64_t kHeldOutWindows = 64;
constexpr double kTrainedPart = 0.95;  // of the text; the rest is held out

struct Plan {
  DistributedDataParallelOptions options;
  std::string text;
  int64_t steps = 0, every = 0, batch = 0, time = 0;
};

torch::Tensor read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (bytes.empty()) throw std::runtime_error("cannot read " + path);
  const auto size = static_cast<int64_t>(bytes.size());
  return torch::from_blob(bytes.data(), {size}, torch::kByte).to(torch::kInt64);
}

std::pair<torch::Tensor, torch::Tensor> windows(const torch::Tensor& text,
                                                const torch::Tensor& starts, int64_t time) {
  const torch::Tensor at = starts.unsqueeze(1) + torch::arange(time + 1);
  const torch::Tensor tokens = text.index({at});
  return {tokens.narrow(1, 0, time).contiguous(), tokens.narrow(1, 1, time).contiguous()};
}

double held_out_loss(Transformer& model, const torch::Tensor& text, int64_t time) {
  const torch::NoGradGuard no_grad;
  const int64_t first = static_cast<int64_t>(static_cast<double>(text.size(0)) * kTrainedPart);
  const int64_t stride = (text.size(0) - first - time - 1) / kHeldOutWindows;
  const auto [inputs, targets] =
      windows(text, first + stride * torch::arange(kHeldOutWindows), time);
  return token_loss(model->forward(inputs), targets).item<double>();
}

void learn(const World& world, const Plan& plan) {
  torch::manual_seed(1234);
  Transformer model(kTimedShape);
  DistributedDataParallel ddp(world, model, plan.options);
  torch::optim::AdamW optimizer(model->parameters(),
                                torch::optim::AdamWOptions(1e-3).weight_decay(0.1));
  const torch::Tensor text = read_bytes(plan.text);
  const int64_t trained = static_cast<int64_t>(static_cast<double>(text.size(0)) * kTrainedPart);
  for (int64_t step = 0; step < plan.steps; ++step) {
    const auto seed = static_cast<uint64_t>(1'000'000 + step * world.size() + world.rank());
    const torch::Tensor starts =
        torch::randint(trained - plan.time - 1, {plan.batch},
                       at::make_generator<at::CPUGeneratorImpl>(seed), torch::kInt64);
    const auto [inputs, targets] = windows(text, starts, plan.time);
    optimizer.zero_grad();
    token_loss(ddp(inputs), targets).backward();
    optimizer.step();
    if (world.rank() == 0 && (step + 1) % plan.every == 0) {
      std::cout << step + 1 << " " << held_out_loss(model, text, plan.time) << std::endl;
    }
  }
}

int run(std::vector<std::string> arguments) {
  Plan plan;
  if (arguments.size() > 2 && arguments[0] == "--codec") {
    plan.options.codec = CodecSpec::parse(arguments[1]).value_or_throw();
    arguments.erase(arguments.begin(), arguments.begin() + 2);
  }
  if (arguments.size() != 5) {
    std::cerr << "usage: learning [--codec SPEC] TEXT STEPS EVERY BATCH TIME\n";
    return 64;
  }
  plan.text = arguments[0];
  plan.steps = std::stoll(arguments[1]);
  plan.every = std::stoll(arguments[2]);
  plan.batch = std::stoll(arguments[3]);
  plan.time = std::stoll(arguments[4]);
  torch::set_num_threads(1);
  learn(init(), plan);
  return 0;
}

}  // namespace
}  // namespace longhaul::bench

int main(int argc, char** argv) {
  try {
    return longhaul::bench::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "learning: " << error.what() << "\n";
    return 1;
  }
}

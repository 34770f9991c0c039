// One rank of the step-time run, timed as bench/peers/ddp_step.py times Python's DDP: prints, on
// rank 0, the milliseconds of each timed step. With --overhead (a world of one) it takes turns
// between the plain model and the same model under DistributedDataParallel and prints "plain ddp"
// per turn.
//
// With --traffic it prints instead, once, what a timed step's exchange took: "step_ms wait_ms
// busy_ms codec_ms sent_bytes raw_bytes" (TrafficCounts, means).
//
// usage: ddp_step [--overhead | --traffic] [--codec SPEC] [--bucket-cap-mb MB] WARMUP STEPS BATCH
// TIME
// (rank and world from the environment; on a GPU where init() takes one)
#include <torch/cuda.h>
#include <torch/torch.h>

#include <chrono>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "bench/reference_training.h"
#include "longhaul/ddp/distributed_data_parallel.h"
#include "longhaul/runtime/world.h"

namespace longhaul::bench {
namespace {

struct Plan {
  DistributedDataParallelOptions options;
  int64_t warmup = 0;
  int64_t steps = 0;
  int64_t batch = 0;
  int64_t time = 0;
  bool traffic = false;
};

Transformer make_model(const World& world) {
  torch::manual_seed(1234);
  Transformer model(kTimedShape);
  model->to(world.device());
  return model;
}

auto make_batch(const World& world, const Plan& plan) {
  const auto [inputs, targets] = token_batch(kTimedShape, plan.batch, plan.time, world.rank());
  return std::pair{inputs.to(world.device()), targets.to(world.device())};
}

torch::optim::SGD make_optimizer(const Transformer& model) {
  return torch::optim::SGD(model->parameters(), torch::optim::SGDOptions(0.01).momentum(0.9));
}

// Until the device, too, has done it.
double milliseconds_of(const World& world, const std::function<void()>& step) {
  const auto start = std::chrono::steady_clock::now();
  step();
  if (world.device().is_cuda()) torch::cuda::synchronize(world.device().index());
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

void time_steps(const World& world, const Plan& plan) {
  Transformer model = make_model(world);
  DistributedDataParallel ddp(world, model, plan.options);
  torch::optim::SGD optimizer = make_optimizer(model);
  const auto [inputs, targets] = make_batch(world, plan);
  const auto step = [&, &inputs = inputs, &targets = targets] {
    optimizer.zero_grad();
    token_loss(ddp(inputs), targets).backward();
    optimizer.step();
  };
  TrafficCounts before;
  double all = 0;
  for (int64_t i = 0; i < plan.warmup + plan.steps; ++i) {
    if (i == plan.warmup) before = ddp.traffic();
    const double milliseconds = milliseconds_of(world, step);
    if (world.rank() != 0 || i < plan.warmup) continue;
    all += milliseconds;
    if (!plan.traffic) std::cout << milliseconds << "\n";
  }
  if (!plan.traffic || world.rank() != 0) return;
  const TrafficCounts after = ddp.traffic();
  const auto steps = static_cast<double>(plan.steps);
  const auto mean_ms = [&](double from, double to) { return (to - from) * 1e3 / steps; };
  std::cout << all / steps << " " << mean_ms(before.wait_seconds, after.wait_seconds) << " "
            << mean_ms(before.busy_seconds, after.busy_seconds) << " "
            << mean_ms(before.codec_seconds, after.codec_seconds) << " "
            << static_cast<double>(after.bytes_sent - before.bytes_sent) / steps << " "
            << static_cast<double>(after.bytes_raw - before.bytes_raw) / steps << "\n";
}

void time_overhead(const World& world, const Plan& plan) {
  Transformer plain = make_model(world);
  Transformer wrapped = make_model(world);
  DistributedDataParallel ddp(world, wrapped);
  torch::optim::SGD plain_optimizer = make_optimizer(plain);
  torch::optim::SGD wrapped_optimizer = make_optimizer(wrapped);
  const auto [inputs, targets] = make_batch(world, plan);
  const std::function<void()> plain_step = [&, &inputs = inputs, &targets = targets] {
    plain_optimizer.zero_grad();
    token_loss(plain(inputs), targets).backward();
    plain_optimizer.step();
  };
  const std::function<void()> wrapped_step = [&, &inputs = inputs, &targets = targets] {
    wrapped_optimizer.zero_grad();
    token_loss(ddp(inputs), targets).backward();
    wrapped_optimizer.step();
  };
  for (int64_t i = 0; i < plan.warmup + plan.steps; ++i) {
    // Who goes first changes from turn to turn: the second step finds warmer caches.
    const bool plain_first = i % 2 == 0;
    const double first = milliseconds_of(world, plain_first ? plain_step : wrapped_step);
    const double second = milliseconds_of(world, plain_first ? wrapped_step : plain_step);
    if (i < plan.warmup) continue;
    std::cout << (plain_first ? first : second) << " " << (plain_first ? second : first) << "\n";
  }
}

int usage() {
  std::cerr
      << "usage: ddp_step [--overhead | --traffic] [--codec SPEC] [--bucket-cap-mb MB] WARMUP "
         "STEPS BATCH TIME\n";
  return 64;
}

int run(const std::vector<std::string>& arguments) {
  bool overhead = false;
  bool traffic = false;
  DistributedDataParallelOptions options;
  size_t next = 0;
  for (; next < arguments.size() && arguments[next].starts_with("--"); ++next) {
    if (arguments[next] == "--overhead") {
      overhead = true;
    } else if (arguments[next] == "--traffic") {
      traffic = true;
    } else if (arguments[next] == "--codec" && next + 1 < arguments.size()) {
      options.codec = CodecSpec::parse(arguments[++next]).value_or_throw();
    } else if (arguments[next] == "--bucket-cap-mb" && next + 1 < arguments.size()) {
      options.bucket_cap_mb = std::stod(arguments[++next]);
    } else {
      return usage();
    }
  }
  if (arguments.size() - next != 4) return usage();
  const auto number = [&](size_t i) { return std::stoll(arguments[next + i]); };
  const Plan plan = {options, number(0), number(1), number(2), number(3), traffic};
  torch::set_num_threads(1);
  const World world = init();
  (overhead ? time_overhead : time_steps)(world, plan);
  return 0;
}

}  // namespace
}  // namespace longhaul::bench

int main(int argc, char** argv) {
  try {
    return longhaul::bench::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "ddp_step: " << error.what() << "\n";
    return 1;
  }
}

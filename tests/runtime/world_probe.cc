// One rank for world_test.py:  world_probe CASE
//   train     trains three steps, prints "rank size hash-of-parameters"
//   escape    rank 1 leaves early; nobody catches what the others get
//   mismatch  rank 1 wraps another model
//   foreign   throws an exception that is not ours
#include <torch/torch.h>

#include <cstdio>
#include <stdexcept>
#include <string>

#include "longhaul/ddp/distributed_data_parallel.h"
#include "longhaul/runtime/world.h"

namespace {

double train(longhaul::World& world, const std::string& what) {
  const int64_t width = what == "mismatch" && world.rank() == 1 ? 5 : 4;
  torch::manual_seed(world.rank());
  torch::nn::Linear model(width, 2);
  longhaul::DistributedDataParallel ddp(world, model);
  torch::optim::SGD sgd(model->parameters(), 0.1);
  for (int64_t step = 0; step < 3; ++step) {
    if (what == "escape" && world.rank() == 1 && step == 1) std::_Exit(7);
    sgd.zero_grad();
    ddp(torch::full({3, width}, world.rank() + 1.0)).square().mean().backward();
    sgd.step();
    world.report({.step = step + 1, .total_steps = 3});
  }
  world.barrier();
  return model->weight.sum().item<double>();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "train";
  longhaul::InitOptions options;
  options.timeout = std::chrono::seconds(what == "lonely" ? 2 : 60);
  longhaul::World world = longhaul::init(options);
  if (what == "foreign") throw std::logic_error("not one of ours");
  const double sum = train(world, what);
  std::printf("%d %d %.17g %s\n", world.rank(), world.size(), sum,
              world.should_stop() ? "stop" : "go");
  return 0;
}

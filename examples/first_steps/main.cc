// A regression in libtorch, made distributed by the four lines marked <-.
#include <torch/torch.h>

#include <longhaul/longhaul.h>  // <- 1
#include <cstdio>

int main() {
  longhaul::World world = longhaul::init();  // <- 2

  torch::manual_seed(1);
  torch::nn::Sequential model(torch::nn::Linear(8, 32), torch::nn::Tanh(),
                              torch::nn::Linear(32, 1));
  longhaul::DistributedDataParallel ddp(world, model);  // <- 3

  // Learn the sum of eight numbers. Each rank sees numbers of its own.
  torch::manual_seed(100 + world.rank());  // <- 4
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(1e-2));
  for (int step = 1; step <= 200; ++step) {
    const auto input = torch::rand({64, 8});
    const auto target = input.sum(1, /*keepdim=*/true);
    optimizer.zero_grad();
    const auto loss = torch::mse_loss(ddp(input), target);
    loss.backward();
    optimizer.step();
    if (step % 50 == 0 && world.rank() == 0)
      std::printf("step %d  loss %.4f\n", step, loss.item<double>());
  }

  torch::NoGradGuard no_grad;
  double sum = 0;
  for (const auto& parameter : model->parameters()) sum += parameter.sum().item<double>();
  std::printf("rank %d of %d: parameters sum to %.9f\n", world.rank(), world.size(), sum);
}

#include <longhaul/longhaul.h>
#include <torch/torch.h>

#include <iostream>

int main() {
  longhaul::World world = longhaul::init();
  torch::nn::Linear model(2, 1);
  longhaul::DistributedDataParallel ddp(world, model);
  ddp(torch::ones({4, 2})).sum().backward();
  std::cout << "longhaul " << longhaul::version() << ": rank " << world.rank() << " of "
            << world.size() << ", bias gradient " << model->bias.grad().item<float>() << "\n";
}

// One rank for world_test.py:  world_probe CASE
//   train     trains three steps, prints "rank size hash-of-parameters"
//   escape    rank 1 leaves early; nobody catches what the others get
//   mismatch  rank 1 wraps another model
//   foreign   throws an exception that is not ours
//   again     three Worlds, one after the other
//   both      two Worlds at once, of which the first one goes first
//   linger    as train, but rank 0 ends only when rank 1's next program has come
//   caught    rank 1 throws in its first World, all catch what comes of it, and meet again
//   agree     steps until the ranks agree to stop; prints how many
//   poll      waits until it should stop; prints "stopped"
//   stuck     rank 1 sits in read_a_shard_for_ever(), the others wait for it
//   deaf      prints "ready" and never asks
//   after     prints "ready" when its World is gone, and goes on
//   lines     prints a line with printf and one with std::cout, half a line, and crashes
//   unsynced  the same, with std::cout on its own
#include <signal.h>
#include <torch/torch.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <cstdio>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "longhaul/ddp/distributed_data_parallel.h"
#include "longhaul/runtime/world.h"

namespace {

double train(longhaul::World& world, const std::string& what) {
  const int64_t width = what == "mismatch" && world.rank() == 1 ? 5 : 4;
  torch::manual_seed(world.rank());
  torch::nn::Linear model(width, 2);
  longhaul::DistributedDataParallelOptions options;
  if (what == "zstd" || what == "auto")
    options.codec = longhaul::CodecSpec::parse(what).value_or_throw();
  longhaul::DistributedDataParallel ddp(world, model, options);
  torch::optim::SGD sgd(model->parameters(), 0.1);
  for (int64_t step = 0; step < 3; ++step) {
    if (what == "escape" && world.rank() == 1 && step == 1) std::_Exit(7);
    if (what == "throw" && world.rank() == 1 && step == 1) throw std::runtime_error("half way");
    sgd.zero_grad();
    ddp(torch::full({3, width}, world.rank() + 1.0)).square().mean().backward();
    sgd.step();
    world.report({.step = step + 1, .total_steps = 3});
  }
  world.barrier();
  return model->weight.sum().item<double>();
}

void print_result(longhaul::World& world, double sum) {
  std::printf("%d %d %.17g %s\n", world.rank(), world.size(), sum,
              world.should_stop() ? "stop" : "go");
}

void train_again() {
  for (int i = 0; i < 3; ++i) {
    longhaul::World world = longhaul::init();
    print_result(world, train(world, "zstd"));
  }
}

void train_both() {
  auto first = std::make_unique<longhaul::World>(longhaul::init());
  longhaul::World second = longhaul::init();
  train(*first, "zstd");
  train(second, "zstd");
  train(*first, "zstd");
  first.reset();
  print_result(second, train(second, "zstd"));
}

void train_after_failure() {
  longhaul::InitOptions options;
  options.timeout = std::chrono::seconds(20);
  try {
    longhaul::World world = longhaul::init(options);
    train(world, "throw");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "caught: %s\n", error.what());
  }
  longhaul::World world = longhaul::init();
  print_result(world, train(world, "train"));
}

void step_until_agreed() {
  longhaul::World world = longhaul::init();
  int64_t steps = 0;
  do {
    world.barrier();
    if (++steps == 1) std::printf("ready\n");
  } while (!world.agree_to_stop());
  std::printf("%ld %s\n", steps, world.agree_to_stop() ? "agreed" : "odd");
}

void poll_until_asked() {
  longhaul::World world = longhaul::init();
  std::printf("ready\n");
  while (!world.should_stop()) std::this_thread::sleep_for(longhaul::milliseconds(5));
  std::printf("stopped\n");
}

[[gnu::noinline]] void read_a_shard_for_ever() {
  for (;;) ::pause();
}

void get_stuck() {
  longhaul::World world = longhaul::init();
  world.report({.step = 7, .total_steps = 10});
  world.barrier();
  if (world.rank() == 1) read_a_shard_for_ever();
  world.barrier();
}

[[noreturn]] void sleep_for_ever() {
  std::printf("ready\n");
  for (;;) ::pause();
}

void linger(const longhaul::World& world) {
  const auto& store = world.communicator()->store();
  while (store->add("longhaul/0/meetings/1", 0) < 2) {
    std::this_thread::sleep_for(longhaul::milliseconds(5));
  }
}

[[noreturn]] void print_and_crash(bool synced) {
  std::ios::sync_with_stdio(synced);
  longhaul::World world = longhaul::init();
  std::printf("by printf\n");
  std::cout << "by cout " << 1 << "\n";
  std::printf("half a line");
  std::getchar();  // until the test has seen them
  raise(SIGSEGV);
  std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "train";
  if (what == "again") return train_again(), 0;
  if (what == "both") return train_both(), 0;
  if (what == "caught") return train_after_failure(), 0;
  if (what == "agree") return step_until_agreed(), 0;
  if (what == "stuck") return get_stuck(), 0;
  if (what == "poll") return poll_until_asked(), 0;
  if (what == "lines" || what == "unsynced") print_and_crash(what == "lines");
  longhaul::InitOptions options;
  options.timeout = std::chrono::seconds(what == "lonely" ? 2 : 60);
  if (what == "after") {
    longhaul::init(options);
    sleep_for_ever();
  }
  longhaul::World world = longhaul::init(options);
  if (what == "deaf") sleep_for_ever();
  if (what == "foreign") throw std::logic_error("not one of ours");
  print_result(world, train(world, what));
  if (what == "linger" && world.rank() == 0) linger(world);
  return 0;
}

// One rank of the parity run: trains like bench/peers/parity.py and writes what it ends with,
// parameters then buffers, as raw bytes. With --golden it prints sums and norms instead, for
// tests/golden.
//
// usage: parity NAME STEPS FILE | parity --golden NAME STEPS   (rank and world from the
// environment)
#include <torch/torch.h>

#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "bench/reference_training.h"
#include "longhaul/base/json.h"
#include "longhaul/runtime/world.h"

namespace longhaul::bench {
namespace {

void write_state(const NamedTensors& state, const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  for (const auto& [name, tensor] : state) {
    const torch::Tensor values = tensor.detach().contiguous();
    file.write(static_cast<const char*>(values.const_data_ptr()),
               static_cast<std::streamsize>(values.nbytes()));
  }
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

std::string golden(const NamedTensors& state) {
  JsonObject all;
  for (const auto& [name, tensor] : state) {
    const torch::Tensor values = tensor.detach().to(torch::kFloat64);
    all.set_raw(name, JsonObject()
                          .set("sum", values.sum().item<double>())
                          .set("norm", values.norm().item<double>())
                          .str());
  }
  return all.str();
}

int run(const std::vector<std::string>& arguments) {
  const bool wants_golden = !arguments.empty() && arguments[0] == "--golden";
  if (arguments.size() != 3) {
    std::cerr << "usage: parity NAME STEPS FILE | parity --golden NAME STEPS\n";
    return 64;
  }
  const std::string& name = arguments[wants_golden ? 1 : 0];
  const int64_t steps = std::stoll(arguments[wants_golden ? 2 : 1]);
  const World world = init();
  const NamedTensors state = train_reference(name, world, steps);
  if (!wants_golden) {
    write_state(state, arguments[2]);
  } else if (world.rank() == 0) {
    std::cout << golden(state) << "\n";
  }
  return 0;
}

}  // namespace
}  // namespace longhaul::bench

int main(int argc, char** argv) {
  try {
    return longhaul::bench::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "parity: " << error.what() << "\n";
    return 1;
  }
}

// One rank of the matrix: runs each combination of a table (scenario, codec, options) in a
// communicator of its own, and writes what came of it as a JSON line: gradients after every step,
// parameters and buffers at the end, and the error if it was refused. bench/peers/ddp_matrix.py
// does the same under Python's DDP.
//
// usage: ddp_matrix TABLE RESULTS STEPS   (rank and world from the environment)
// TABLE: lines of "id scenario codec option,option"
#include <torch/torch.h>

#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <vector>

#include "bench/ddp_scenarios.h"
#include "longhaul/base/json.h"
#include "longhaul/base/strings.h"
#include "longhaul/runtime/world.h"

namespace longhaul::bench {
namespace {

constexpr double kSmallBucketMb = 0.0001;  // some 100 bytes: every layer has a bucket of its own
constexpr std::chrono::seconds kTimeout(60);

struct Combination {
  std::string id, scenario, codec, options;
};

std::vector<Combination> read_table(const std::string& path) {
  std::ifstream file(path);
  std::vector<Combination> table;
  Combination one;
  while (file >> one.id >> one.scenario >> one.codec >> one.options) table.push_back(one);
  if (table.empty()) throw std::runtime_error("no combinations in " + path);
  return table;
}

void set_option(const std::string& word, DistributedDataParallelOptions& options) {
  if (word == "find_unused") {
    options.find_unused_parameters = true;
  } else if (word == "static_graph") {
    options.static_graph = true;
  } else if (word == "bucket_view") {
    options.gradient_as_bucket_view = true;
  } else if (word == "small_buckets") {
    options.bucket_cap_mb = kSmallBucketMb;
  } else if (word == "cap_list") {
    options.bucket_cap_mb_list = {kSmallBucketMb, 2 * kSmallBucketMb};
  } else if (word == "skip_unused") {
    options.skip_all_reduce_unused_params = true;
  } else if (word == "no_broadcast") {
    options.broadcast_buffers = false;
  } else if (word != "default") {
    throw std::invalid_argument("no option '" + word + "'");
  }
}

DistributedDataParallelOptions options_of(const Combination& combination) {
  DistributedDataParallelOptions options;
  options.codec = CodecSpec::parse(combination.codec).value_or_throw();
  for (const std::string& word : split(combination.options, ',')) set_option(word, options);
  return options;
}

// As Python's struct module calls them.
const char* type_letter(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "f";
    case at::kDouble:
      return "d";
    case at::kLong:
      return "q";
    default:
      throw std::invalid_argument("no letter for " + std::string(at::toString(type)));
  }
}

// "f:" and the bytes.
std::string hex(const torch::Tensor& tensor) {
  constexpr char kDigits[] = "0123456789abcdef";
  const torch::Tensor dense = tensor.detach().is_sparse() ? tensor.detach().to_dense() : tensor;
  const torch::Tensor values = dense.detach().contiguous();
  const auto* bytes = static_cast<const unsigned char*>(values.const_data_ptr());
  std::string text = std::string(type_letter(values.scalar_type())) + ":";
  text.reserve(2 + 2 * values.nbytes());
  for (size_t i = 0; i < values.nbytes(); ++i) {
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

std::string gradients(const torch::nn::Module& model) {
  JsonObject all;
  for (const auto& [name, parameter] : unique_parameters(model)) {
    const torch::Tensor& gradient = parameter.grad();
    if (gradient.defined()) {
      all.set(name, hex(gradient));
    } else {
      all.set_raw(name, "null");
    }
  }
  return all.str();
}

std::string state(const torch::nn::Module& model) {
  JsonObject all;
  for (const auto& [name, parameter] : unique_parameters(model)) all.set(name, hex(parameter));
  for (const auto& item : model.named_buffers()) all.set(item.key(), hex(item.value()));
  return all.str();
}

void descend(const torch::nn::Module& model) {
  torch::NoGradGuard no_grad;
  for (const auto& [name, parameter] : unique_parameters(model))
    if (parameter.grad().defined()) parameter.add_(parameter.grad(), -0.1);
}

// `step` is how far it came: -1 while the model is wrapped.
void run_steps(const Combination& combination, const std::shared_ptr<Communicator>& communicator,
               int64_t steps, int64_t& step, std::vector<std::string>& seen, std::string& end) {
  const std::unique_ptr<Scenario> scenario =
      make_scenario(combination.scenario, communicator, options_of(combination));
  for (step = 0; step < steps; ++step) {
    scenario->step(step);
    seen.push_back(gradients(scenario->model()));
    descend(scenario->model());
  }
  end = state(scenario->model());
}

std::string run_combination(const Combination& combination, const World& world, int64_t steps) {
  JsonObject outcome;
  outcome.set("id", combination.id);
  int64_t step = -1;
  std::vector<std::string> seen;
  std::string end = "{}";
  const auto refused = [&](const char* kind, const std::exception& error) {
    outcome.set("refused_at", step).set("kind", kind).set("error", error.what());
  };
  const auto prefixed = c10::make_intrusive<c10d::PrefixStore>("matrix/" + combination.id,
                                                               world.communicator()->store());
  try {
    CommunicatorOptions options = world.communicator()->options();
    options.timeout = kTimeout;
    run_steps(combination, Communicator::create(prefixed, options), steps, step, seen, end);
  } catch (const Error& error) {
    refused("longhaul::Error", error);
  } catch (const std::exception& error) {
    refused("other", error);
  }
  return outcome.set_raw("steps", "[" + join(seen, ",") + "]").set_raw("state", end).str();
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 3) {
    std::cerr << "usage: ddp_matrix TABLE RESULTS STEPS\n";
    return 64;
  }
  torch::set_num_threads(1);
  const std::vector<Combination> table = read_table(arguments[0]);
  std::ofstream results(arguments[1]);
  const World world = init();
  for (const Combination& combination : table) {
    results << JsonObject().set("begun", combination.id).str() << std::endl;
    results << run_combination(combination, world, std::stoll(arguments[2])) << std::endl;
  }
  return results ? 0 : 1;
}

}  // namespace
}  // namespace longhaul::bench

int main(int argc, char** argv) {
  try {
    return longhaul::bench::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "ddp_matrix: " << error.what() << "\n";
    return 1;
  }
}

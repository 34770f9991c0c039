#include "bench/reference_training.h"

#include <mutex>
#include <stdexcept>

#include "longhaul/ddp/distributed_data_parallel.h"

namespace longhaul::bench {
namespace {

constexpr int64_t kMlpInputs = 32;
constexpr int64_t kMlpWidth = 64;
constexpr int64_t kMlpClasses = 10;
constexpr int64_t kBatch = 16;
constexpr int64_t kTime = 24;
constexpr uint64_t kModelSeed = 1234;
constexpr double kBucketCapMb = 0.02;  // some 20 KiB: several buckets of each model

torch::Generator generator(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

// Every rank sees its own data in every step.
uint64_t data_seed(const Communicator& world, int64_t step) {
  return 1'000'000 + static_cast<uint64_t>(step * world.size() + world.rank());
}

// torch::manual_seed() sets the generator of the whole process: one rank's model at a time.
template <typename Build>
auto build_seeded(Build build) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  torch::manual_seed(kModelSeed);
  return build();
}

DistributedDataParallelOptions ddp_options() {
  DistributedDataParallelOptions options;
  options.bucket_cap_mb = kBucketCapMb;
  return options;
}

NamedTensors state_of(const torch::nn::Module& model) {
  NamedTensors state;
  for (const auto& item : model.named_parameters()) state.emplace_back(item.key(), item.value());
  for (const auto& item : model.named_buffers()) state.emplace_back(item.key(), item.value());
  return state;
}

NamedTensors train_mlp(const std::shared_ptr<Communicator>& world, int64_t steps) {
  Mlp model = build_seeded([] { return Mlp(); });
  DistributedDataParallel ddp(world, model, ddp_options());
  torch::optim::SGD optimizer(model->parameters(),
                              torch::optim::SGDOptions(0.05).momentum(0.9).weight_decay(1e-4));
  for (int64_t step = 0; step < steps; ++step) {
    const torch::Generator random = generator(data_seed(*world, step));
    const torch::Tensor inputs = torch::randn({kBatch, kMlpInputs}, random);
    const torch::Tensor classes = torch::randint(kMlpClasses, {kBatch}, random, torch::kInt64);
    optimizer.zero_grad();
    torch::nn::functional::cross_entropy(ddp(inputs), classes).backward();
    optimizer.step();
  }
  return state_of(*model);
}

NamedTensors train_transformer(const std::shared_ptr<Communicator>& world, int64_t steps) {
  Transformer model = build_seeded([] { return Transformer(kParityShape); });
  DistributedDataParallel ddp(world, model, ddp_options());
  torch::optim::AdamW optimizer(model->parameters(),
                                torch::optim::AdamWOptions(1e-3).weight_decay(0.1));
  for (int64_t step = 0; step < steps; ++step) {
    const auto [inputs, targets] =
        token_batch(kParityShape, kBatch, kTime, data_seed(*world, step));
    optimizer.zero_grad();
    token_loss(ddp(inputs), targets).backward();
    optimizer.step();
  }
  return state_of(*model);
}

torch::nn::LayerNorm layer_norm(int64_t width) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({width}));
}

}  // namespace

MlpImpl::MlpImpl()
    : first(register_module("first", torch::nn::Linear(kMlpInputs, kMlpWidth))),
      second(register_module("second", torch::nn::Linear(kMlpWidth, kMlpWidth))),
      last(register_module("last", torch::nn::Linear(kMlpWidth, kMlpClasses))),
      first_norm(register_module("first_norm", torch::nn::BatchNorm1d(kMlpWidth))),
      second_norm(register_module("second_norm", torch::nn::BatchNorm1d(kMlpWidth))) {}

torch::Tensor MlpImpl::forward(torch::Tensor x) {
  x = torch::relu(first_norm(first(x)));
  x = torch::relu(second_norm(second(x)));
  return last(x);
}

TransformerBlockImpl::TransformerBlockImpl(const TransformerShape& shape)
    : heads(shape.heads),
      first_norm(register_module("first_norm", layer_norm(shape.width))),
      second_norm(register_module("second_norm", layer_norm(shape.width))),
      joined(register_module(
          "joined",
          // A bias of keys has no effect but rounding noise, which AdamW would make large.
          torch::nn::Linear(torch::nn::LinearOptions(shape.width, 3 * shape.width).bias(false)))),
      mixed(register_module("mixed", torch::nn::Linear(shape.width, shape.width))),
      wide(register_module("wide", torch::nn::Linear(shape.width, 4 * shape.width))),
      narrow(register_module("narrow", torch::nn::Linear(4 * shape.width, shape.width))) {}

torch::Tensor TransformerBlockImpl::forward(const torch::Tensor& x) {
  const int64_t batch = x.size(0);
  const int64_t time = x.size(1);
  const int64_t width = x.size(2);
  const torch::Tensor parts =
      joined(first_norm(x)).view({batch, time, 3, heads, width / heads}).permute({2, 0, 3, 1, 4});
  const torch::Tensor attended = at::scaled_dot_product_attention(
      parts[0], parts[1], parts[2], /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true);
  const torch::Tensor y = x + mixed(attended.transpose(1, 2).reshape({batch, time, width}));
  return y + narrow(torch::gelu(wide(second_norm(y))));
}

TransformerImpl::TransformerImpl(const TransformerShape& shape)
    : embedding(register_module("embedding", torch::nn::Embedding(shape.vocabulary, shape.width))),
      blocks(register_module("blocks", torch::nn::ModuleList())),
      head(nullptr) {
  for (int64_t i = 0; i < shape.layers; ++i) blocks->push_back(TransformerBlock(shape));
  head = register_module("head", torch::nn::Linear(shape.width, shape.vocabulary));
}

torch::Tensor TransformerImpl::forward(const torch::Tensor& tokens) {
  torch::Tensor x = embedding(tokens);
  for (const auto& block : *blocks) x = block->as<TransformerBlock>()->forward(x);
  return head(x);
}

std::pair<torch::Tensor, torch::Tensor> token_batch(const TransformerShape& shape, int64_t batch,
                                                    int64_t time, uint64_t seed) {
  const torch::Generator random = generator(seed);
  const torch::Tensor tokens =
      torch::randint(shape.vocabulary, {batch, time + 1}, random, torch::kInt64);
  return {tokens.narrow(1, 0, time).contiguous(), tokens.narrow(1, 1, time).contiguous()};
}

torch::Tensor token_loss(const torch::Tensor& logits, const torch::Tensor& targets) {
  return torch::nn::functional::cross_entropy(logits.flatten(0, 1), targets.flatten());
}

NamedTensors train_reference(std::string_view name, const std::shared_ptr<Communicator>& world,
                             int64_t steps) {
  torch::set_num_threads(1);
  if (name == "mlp_sgd") return train_mlp(world, steps);
  if (name == "transformer_adamw") return train_transformer(world, steps);
  throw std::invalid_argument("no reference training '" + std::string(name) +
                              "'; there are mlp_sgd and transformer_adamw");
}

}  // namespace longhaul::bench

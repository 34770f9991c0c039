#include "bench/ddp_scenarios.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "longhaul/ddp/distributed_data_parallel.h"

namespace longhaul::bench {
namespace {

using torch::Tensor;

// Models compute one layer after the other by name, never two in one expression: C++ leaves open
// which comes first, and with it the order of gradients and of buckets.

constexpr int64_t kRows = 4;
constexpr int64_t kInputs = 6;
constexpr int64_t kWidth = 5;
constexpr int64_t kOutputs = 3;

at::Generator generator(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

// Where a step runs, and its data. `index` tells several batches of a step apart.
struct Turn {
  Rank rank = 0;
  int64_t step = 0;

  uint64_t seed(uint64_t index) const {
    return 1000 + 100 * static_cast<uint64_t>(step) + 10 * index + static_cast<uint64_t>(rank);
  }
  Tensor batch(uint64_t index = 0, c10::IntArrayRef shape = {kRows, kInputs}) const {
    return torch::empty(shape).uniform_(-1, 1, generator(seed(index)));
  }
  Tensor tokens() const { return torch::randint(7, {kRows}, generator(seed(0)), torch::kInt64); }
};

Tensor loss_of(const Tensor& output) {
  return output.square().mean() + output.mean();
}

// By sorted names, because the two languages may list modules in different orders.
void fill(torch::nn::Module& module) {
  torch::NoGradGuard no_grad;
  std::map<std::string, Tensor> sorted;
  for (const auto& [name, parameter] : unique_parameters(module)) sorted[name] = parameter;
  uint64_t seed = 1;
  for (auto& [name, parameter] : sorted) parameter.uniform_(-0.5, 0.5, generator(seed++));
}

struct NetImpl : torch::nn::Module {
  Tensor forward(const Tensor& x) { return second(torch::tanh(first(x))); }
  torch::nn::Linear first = register_module("first", torch::nn::Linear(kInputs, kWidth));
  torch::nn::Linear second = register_module("second", torch::nn::Linear(kWidth, kOutputs));
};
TORCH_MODULE(Net);

// Takes either way through the model, or both.
struct ForkImpl : torch::nn::Module {
  Tensor forward(const Tensor& x, bool go_left, bool go_right) {
    if (!go_left || !go_right) return go_left ? left(x) : right(x);
    const Tensor from_left = left(x);
    return from_left + right(x);
  }
  Net left = register_module("left", Net());
  Net right = register_module("right", Net());
};
TORCH_MODULE(Fork);

// One weight under two names.
struct SharedImpl : torch::nn::Module {
  SharedImpl() { register_parameter("tied", square->weight); }
  Tensor forward(const Tensor& x) {
    const Tensor twice = torch::linear(torch::tanh(square(x)), square->weight);
    return twice + head(x).sum();
  }
  torch::nn::Linear square = register_module("square", torch::nn::Linear(kInputs, kInputs));
  torch::nn::Linear head = register_module("head", torch::nn::Linear(kInputs, kOutputs));
};
TORCH_MODULE(Shared);

struct RepeatedImpl : torch::nn::Module {
  Tensor forward(const Tensor& x) {
    return last(torch::tanh(square(torch::tanh(square(torch::tanh(square(x)))))));
  }
  torch::nn::Linear square = register_module("square", torch::nn::Linear(kInputs, kInputs));
  torch::nn::Linear last = register_module("last", torch::nn::Linear(kInputs, kOutputs));
};
TORCH_MODULE(Repeated);

struct SparseImpl : torch::nn::Module {
  Tensor forward(const Tensor& tokens) { return last(table(tokens)); }
  torch::nn::Embedding table = register_module(
      "table", torch::nn::Embedding(torch::nn::EmbeddingOptions(7, kWidth).sparse(true)));
  torch::nn::Linear last = register_module("last", torch::nn::Linear(kWidth, kOutputs));
};
TORCH_MODULE(Sparse);

struct NormedImpl : torch::nn::Module {
  Tensor forward(const Tensor& x) { return last(norm(first(x))); }
  torch::nn::Linear first = register_module("first", torch::nn::Linear(kInputs, kWidth));
  torch::nn::BatchNorm1d norm = register_module("norm", torch::nn::BatchNorm1d(kWidth));
  torch::nn::Linear last = register_module("last", torch::nn::Linear(kWidth, kOutputs));
};
TORCH_MODULE(Normed);

// Returns both heads.
struct HeadsImpl : torch::nn::Module {
  std::tuple<Tensor, Tensor> forward(const Tensor& x) {
    const Tensor hidden = torch::tanh(body(x));
    return {left(hidden), right(hidden)};
  }
  torch::nn::Linear body = register_module("body", torch::nn::Linear(kInputs, kWidth));
  torch::nn::Linear left = register_module("left", torch::nn::Linear(kWidth, kOutputs));
  torch::nn::Linear right = register_module("right", torch::nn::Linear(kWidth, kOutputs));
};
TORCH_MODULE(Heads);

struct NestedImpl : torch::nn::Module {
  std::map<std::string, std::vector<Tensor>> forward(const Tensor& x) {
    const auto [left, right] = heads(x);
    return {{"first", {left, left.detach()}}, {"second", {right}}};
  }
  Heads heads = register_module("heads", Heads());
};
TORCH_MODULE(Nested);

struct LayerCapsule : torch::CustomClassHolder {
  explicit LayerCapsule(torch::nn::Linear layer) : layer(std::move(layer)) {}
  torch::nn::Linear layer;
};

// Activation checkpointing as torch.utils.checkpoint with use_reentrant: forward keeps only its
// input; backward runs it again and a backward pass of its own inside.
struct Recompute : torch::autograd::Function<Recompute> {
  static Tensor forward(torch::autograd::AutogradContext* context,
                        const c10::intrusive_ptr<LayerCapsule>& layer, const Tensor& x) {
    context->saved_data["layer"] = c10::IValue::make_capsule(layer);
    context->save_for_backward({x});
    return layer->layer(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto layer =
        c10::static_intrusive_pointer_cast<LayerCapsule>(context->saved_data["layer"].toCapsule());
    Tensor x = context->get_saved_variables()[0].detach().requires_grad_();
    {
      const torch::AutoGradMode with_gradients(true);
      torch::autograd::backward({layer->layer(x)}, {gradients[0]});
    }
    return {Tensor(), x.grad()};
  }
};

struct CheckpointedImpl : torch::nn::Module {
  explicit CheckpointedImpl(int times) : times(times) {}
  Tensor forward(const Tensor& x) {
    Tensor hidden = first(x);
    for (int i = 0; i < times; ++i)
      hidden = torch::tanh(Recompute::apply(c10::make_intrusive<LayerCapsule>(middle), hidden));
    return last(hidden);
  }
  int times;
  torch::nn::Linear first = register_module("first", torch::nn::Linear(kInputs, kWidth));
  torch::nn::Linear middle = register_module("middle", torch::nn::Linear(kWidth, kWidth));
  torch::nn::Linear last = register_module("last", torch::nn::Linear(kWidth, kOutputs));
};
TORCH_MODULE(Checkpointed);

struct MixedTypesImpl : torch::nn::Module {
  MixedTypesImpl() { fine->to(torch::kFloat64); }
  Tensor forward(const Tensor& x) { return fine(torch::tanh(coarse(x)).to(torch::kFloat64)); }
  torch::nn::Linear coarse = register_module("coarse", torch::nn::Linear(kInputs, kWidth));
  torch::nn::Linear fine = register_module("fine", torch::nn::Linear(kWidth, kOutputs));
};
TORCH_MODULE(MixedTypes);

// A scalar, an empty tensor and one of four dimensions.
struct OddShapesImpl : torch::nn::Module {
  Tensor forward(const Tensor& x) {
    const Tensor scaled = torch::tanh(x * scalar).sum();
    const Tensor product = scaled * cube.square().sum();
    return product + nothing.sum();
  }
  Tensor scalar = register_parameter("scalar", torch::zeros({}));
  Tensor nothing = register_parameter("nothing", torch::zeros({0, 3}));
  Tensor cube = register_parameter("cube", torch::zeros({2, 1, 3, 2}));
};
TORCH_MODULE(OddShapes);

// Weights whose memory is not in the order of their dimensions.
struct ChannelsLastImpl : torch::nn::Module {
  ChannelsLastImpl() {
    for (auto& conv : {first, second})
      conv->weight.set_data(conv->weight.contiguous(torch::MemoryFormat::ChannelsLast));
  }
  Tensor forward(const Tensor& x) { return second(torch::tanh(norm(first(x)))).mean({2, 3}); }
  torch::nn::Conv2d first = register_module("first", torch::nn::Conv2d(2, 3, 3));
  torch::nn::BatchNorm2d norm = register_module("norm", torch::nn::BatchNorm2d(3));
  torch::nn::Conv2d second = register_module("second", torch::nn::Conv2d(3, 2, 2));
};
TORCH_MODULE(ChannelsLast);

struct FragileImpl : torch::nn::Module {
  Tensor forward(const Tensor& x, bool fail) {
    const Tensor hidden = net->first(x);
    if (fail) throw std::runtime_error("the model's own exception");
    return net->second(torch::tanh(hidden));
  }
  Net net = register_module("net", Net());
};
TORCH_MODULE(Fragile);

// Buffers of several types; one is replaced in every step, as some modules do.
struct BufferedImpl : torch::nn::Module {
  Tensor forward(const Tensor& x) {
    {
      torch::NoGradGuard no_grad;
      count.add_(1);
      mean.set_data(mean * 0.5 + x.mean(0) * 0.5);
    }
    return net(x - mean);
  }
  Net net = register_module("net", Net());
  Tensor count = register_buffer("count", torch::zeros({1}, torch::kInt64));
  Tensor mean = register_buffer("mean", torch::zeros({kInputs}));
};
TORCH_MODULE(Buffered);

template <typename Model>
using Ddp = DistributedDataParallel<Model>;

// A scenario is a model and what one step does with it.
template <typename Model>
class Loop final : public Scenario {
 public:
  using Body = std::function<void(Ddp<Model>&, const Turn&)>;
  Loop(const std::shared_ptr<Communicator>& world, Model model,
       const DistributedDataParallelOptions& options, Body body, bool clear)
      : rank_(world->rank()),
        ddp_(world, std::move(model), options),
        body_(std::move(body)),
        clear_(clear) {}

  void step(int64_t step) override {
    if (clear_) ddp_.zero_grad();
    body_(ddp_, {rank_, step});
  }
  torch::nn::Module& model() override { return *ddp_.model(); }

 private:
  const Rank rank_;
  Ddp<Model> ddp_;
  const Body body_;
  const bool clear_;
};

struct Wrap {
  std::shared_ptr<Communicator> world;
  DistributedDataParallelOptions options;

  template <typename Model, typename Body>
  std::unique_ptr<Scenario> operator()(Model model, const Body& body, bool clear = true) const {
    fill(*model);
    return std::make_unique<Loop<Model>>(world, model, options, body, clear);
  }
};

// Two models, each wrapped on its own, one behind the other.
class TwoWrappers final : public Scenario {
 public:
  explicit TwoWrappers(const Wrap& wrap) : rank_(wrap.world->rank()) {
    fill(*both_);
    front_.emplace(wrap.world, both_->front, wrap.options);
    back_.emplace(wrap.world, both_->back, wrap.options);
  }
  void step(int64_t step) override {
    front_->zero_grad();
    back_->zero_grad();
    loss_of((*back_)(torch::tanh((*front_)(Turn{rank_, step}.batch())))).backward();
  }
  torch::nn::Module& model() override { return *both_; }

 private:
  struct BothImpl : torch::nn::Module {
    torch::nn::Linear front = register_module("front", torch::nn::Linear(kInputs, kWidth));
    torch::nn::Linear back = register_module("back", torch::nn::Linear(kWidth, kOutputs));
  };
  const Rank rank_;
  std::shared_ptr<BothImpl> both_ = std::make_shared<BothImpl>();
  std::optional<Ddp<torch::nn::Linear>> front_;
  std::optional<Ddp<torch::nn::Linear>> back_;
};

using Make = std::function<std::unique_ptr<Scenario>(const Wrap&)>;

void freeze(const torch::nn::Linear& layer, bool frozen) {
  for (Tensor& parameter : layer->parameters()) parameter.set_requires_grad(!frozen);
}

// Takes `go(turn)` -> (left, right).
template <typename Go>
Make fork(const Go& go) {
  return [go](const Wrap& wrap) {
    return wrap(Fork(), [go](Ddp<Fork>& ddp, const Turn& turn) {
      const auto [left, right] = go(turn);
      loss_of(ddp(turn.batch(), left, right)).backward();
    });
  };
}

template <typename Body>
Make net(const Body& body, bool clear = true) {
  return [=](const Wrap& wrap) { return wrap(Net(), body, clear); };
}

Make heads(const std::function<void(const Tensor&, const Tensor&)>& backward) {
  return [backward](const Wrap& wrap) {
    return wrap(Heads(), [backward](Ddp<Heads>& ddp, const Turn& turn) {
      const auto [left, right] = ddp(turn.batch());
      backward(loss_of(left), loss_of(right));
    });
  };
}

Make checkpointed(int times) {
  return [times](const Wrap& wrap) {
    return wrap(Checkpointed(times), [](Ddp<Checkpointed>& ddp, const Turn& turn) {
      loss_of(ddp(turn.batch())).backward();
    });
  };
}

void accumulate(Ddp<Net>& ddp, const Turn& turn) {
  {
    const auto guard = ddp.no_sync();
    loss_of(ddp(turn.batch(0))).backward();
    loss_of(ddp(turn.batch(1))).backward();
  }
  loss_of(ddp(turn.batch(2))).backward();
}

void local_in_step_one(Ddp<Net>& ddp, const Turn& turn) {
  if (turn.step != 1) return loss_of(ddp(turn.batch())).backward();
  const auto guard = ddp.no_sync();
  loss_of(ddp(turn.batch())).backward();
}

void backward_after_guard(Ddp<Net>& ddp, const Turn& turn) {
  Tensor output;
  {
    const auto guard = ddp.no_sync();
    output = ddp(turn.batch());
  }
  loss_of(output).backward();
}

void forward_before_guard(Ddp<Net>& ddp, const Turn& turn) {
  const Tensor output = ddp(turn.batch());
  const auto guard = ddp.no_sync();
  loss_of(output).backward();
}

void evaluate_between(Ddp<Normed>& ddp, const Turn& turn) {
  const Tensor output = ddp(turn.batch(0));
  ddp.model()->eval();
  {
    torch::NoGradGuard no_grad;
    ddp(turn.batch(1));
    ddp(turn.batch(2));
  }
  ddp.model()->train();
  loss_of(output).backward();
}

void gradient_penalty(Ddp<Net>& ddp, const Turn& turn) {
  const Tensor x = turn.batch().requires_grad_();
  const Tensor output = ddp(x);
  const Tensor slope = torch::autograd::grad({output.sum()}, {x}, {}, /*retain_graph=*/true,
                                             /*create_graph=*/true)[0];
  (loss_of(output) + slope.square().sum()).backward();
}

void freeze_in_step_two(Ddp<Net>& ddp, const Turn& turn) {
  if (turn.step == 2) freeze(ddp.model()->first, true);
  loss_of(ddp(turn.batch())).backward();
}

const std::vector<std::pair<std::string, Make>>& scenarios() {
  static const std::vector<std::pair<std::string, Make>> all = {
      {"plain",
       net([](Ddp<Net>& ddp, const Turn& turn) { loss_of(ddp(turn.batch())).backward(); })},
      {"kept_gradients",
       net([](Ddp<Net>& ddp, const Turn& turn) { loss_of(ddp(turn.batch())).backward(); }, false)},
      {"clipped", net([](Ddp<Net>& ddp, const Turn& turn) {
         loss_of(ddp(turn.batch())).backward();
         torch::nn::utils::clip_grad_norm_(ddp.model()->parameters(), 0.1);
       })},
      {"branch_by_step",
       fork([](const Turn& turn) { return std::pair(turn.step % 2 == 0, turn.step % 2 == 1); })},
      {"branch_by_rank",
       fork([](const Turn& turn) { return std::pair(turn.rank == 0, turn.rank != 0); })},
      {"all_used_by_rank_zero",
       fork([](const Turn& turn) { return std::pair(true, turn.rank == 0); })},
      {"all_used_in_step_zero",
       fork([](const Turn& turn) { return std::pair(true, turn.step == 0); })},
      {"all_used_later", fork([](const Turn& turn) { return std::pair(true, turn.step > 0); })},
      {"never_used", fork([](const Turn&) { return std::pair(true, false); })},
      {"both_used", fork([](const Turn&) { return std::pair(true, true); })},
      {"shared",
       [](const Wrap& wrap) {
         return wrap(Shared(), [](Ddp<Shared>& ddp, const Turn& turn) {
           loss_of(ddp(turn.batch())).backward();
         });
       }},
      {"used_three_times",
       [](const Wrap& wrap) {
         return wrap(Repeated(), [](Ddp<Repeated>& ddp, const Turn& turn) {
           loss_of(ddp(turn.batch())).backward();
         });
       }},
      {"sparse",
       [](const Wrap& wrap) {
         return wrap(Sparse(), [](Ddp<Sparse>& ddp, const Turn& turn) {
           loss_of(ddp(turn.tokens())).backward();
         });
       }},
      {"frozen",
       [](const Wrap& wrap) {
         Net model;
         freeze(model->first, true);
         return wrap(
             model, [](Ddp<Net>& ddp, const Turn& turn) { loss_of(ddp(turn.batch())).backward(); });
       }},
      {"frozen_in_step_two", net(freeze_in_step_two)},
      {"two_forwards_one_backward", net([](Ddp<Net>& ddp, const Turn& turn) {
         const Tensor first = ddp(turn.batch(0));
         (loss_of(first) + loss_of(ddp(turn.batch(1)))).backward();
       })},
      {"two_forwards_two_backwards", net([](Ddp<Net>& ddp, const Turn& turn) {
         const Tensor first = ddp(turn.batch(0));
         const Tensor second = ddp(turn.batch(1));
         loss_of(first).backward();
         loss_of(second).backward();
       })},
      {"two_backwards_in_turn", net([](Ddp<Net>& ddp, const Turn& turn) {
         loss_of(ddp(turn.batch(0))).backward();
         loss_of(ddp(turn.batch(1))).backward();
       })},
      {"one_graph_two_backwards", net([](Ddp<Net>& ddp, const Turn& turn) {
         const Tensor loss = loss_of(ddp(turn.batch()));
         loss.backward({}, /*retain_graph=*/true);
         loss.backward();
       })},
      {"two_losses",
       heads([](const Tensor& left, const Tensor& right) { (left + right).backward(); })},
      {"two_losses_two_backwards", heads([](const Tensor& left, const Tensor& right) {
         left.backward({}, /*retain_graph=*/true);
         right.backward();
       })},
      {"one_output_of_two", heads([](const Tensor& left, const Tensor&) { left.backward(); })},
      {"nested_output",
       [](const Wrap& wrap) {
         return wrap(Nested(), [](Ddp<Nested>& ddp, const Turn& turn) {
           auto output = ddp(turn.batch());
           (loss_of(output["first"][0]) + loss_of(output["second"][0])).backward();
         });
       }},
      {"checkpointed", checkpointed(1)},
      {"checkpointed_twice", checkpointed(2)},
      {"batch_norm",
       [](const Wrap& wrap) {
         return wrap(Normed(), [](Ddp<Normed>& ddp, const Turn& turn) {
           loss_of(ddp(turn.batch())).backward();
         });
       }},
      {"batch_norm_two_forwards",
       [](const Wrap& wrap) {
         return wrap(Normed(), [](Ddp<Normed>& ddp, const Turn& turn) {
           const Tensor first = ddp(turn.batch(0));
           (loss_of(first) + loss_of(ddp(turn.batch(1)))).backward();
         });
       }},
      {"evaluate_between", [](const Wrap& wrap) { return wrap(Normed(), evaluate_between); }},
      {"buffers",
       [](const Wrap& wrap) {
         return wrap(Buffered(), [](Ddp<Buffered>& ddp, const Turn& turn) {
           loss_of(ddp(turn.batch())).backward();
         });
       }},
      {"two_wrappers", [](const Wrap& wrap) { return std::make_unique<TwoWrappers>(wrap); }},
      {"accumulate", net(accumulate)},
      {"local_in_step_one", net(local_in_step_one)},
      {"backward_after_guard", net(backward_after_guard)},
      {"forward_before_guard", net(forward_before_guard)},
      {"backward_skipped", net([](Ddp<Net>& ddp, const Turn& turn) {
         const Tensor loss = loss_of(ddp(turn.batch()));
         if (turn.step != 1) loss.backward();
       })},
      {"exception_in_forward",
       [](const Wrap& wrap) {
         return wrap(Fragile(), [](Ddp<Fragile>& ddp, const Turn& turn) {
           try {
             loss_of(ddp(turn.batch(), turn.step == 1)).backward();
           } catch (const std::runtime_error& error) {
             if (std::string(error.what()) != "the model's own exception") throw;
           }
         });
       }},
      {"gradient_penalty", net(gradient_penalty)},
      {"mixed_types",
       [](const Wrap& wrap) {
         return wrap(MixedTypes(), [](Ddp<MixedTypes>& ddp, const Turn& turn) {
           loss_of(ddp(turn.batch())).backward();
         });
       }},
      {"odd_shapes",
       [](const Wrap& wrap) {
         return wrap(OddShapes(), [](Ddp<OddShapes>& ddp, const Turn& turn) {
           loss_of(ddp(turn.batch())).backward();
         });
       }},
      {"channels_last",
       [](const Wrap& wrap) {
         return wrap(ChannelsLast(), [](Ddp<ChannelsLast>& ddp, const Turn& turn) {
           loss_of(ddp(turn.batch(0, {kRows, 2, 6, 6}))).backward();
         });
       }},
  };
  return all;
}

}  // namespace

std::vector<std::pair<std::string, Tensor>> unique_parameters(const torch::nn::Module& module) {
  std::vector<std::pair<std::string, Tensor>> parameters;
  std::set<const c10::TensorImpl*> seen;
  for (const auto& item : module.named_parameters())
    if (seen.insert(item.value().unsafeGetTensorImpl()).second)
      parameters.emplace_back(item.key(), item.value());
  return parameters;
}

std::unique_ptr<Scenario> make_scenario(const std::string& name,
                                        const std::shared_ptr<Communicator>& world,
                                        const DistributedDataParallelOptions& options) {
  for (const auto& [known, make] : scenarios())
    if (known == name) return make({world, options});
  throw std::invalid_argument("no scenario '" + name + "'");
}

}  // namespace longhaul::bench

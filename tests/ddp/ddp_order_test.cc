// Every order of forward and backward passes gives what Python's class gives, or an error that
// names what was done; what leaves ranks apart there is an error here. Python's rule (2.11, tried
// with two ranks): after a forward pass outside no_sync() the next backward pass, through whatever
// outputs, is reduced; others add to this rank's gradients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <random>

#include "tests/ddp/training.h"

namespace longhaul {
namespace {

using testing::batch_of;
using testing::expect_all_fine;
using testing::expect_same_bits;
using testing::fill;
using testing::gradients_of;
using ::testing::HasSubstr;
using testing::loss_of;
using testing::Mlp;
using testing::RankContext;
using testing::run_ranks;
using Tensors = std::vector<torch::Tensor>;

// What a loop does, one letter each:
//   F forward, N forward in no_sync(), E forward without gradients,
//   B backward of the last loss, P of the one before it, S of the sum of all, Z sets gradients to
//   zero. All keep their graphs.
constexpr std::string_view kLetters = "FNEBPSZ";

// The losses of an order, the same on both sides of the comparison.
struct Losses {
  std::vector<torch::Tensor> losses;

  std::vector<size_t> chosen(char letter) const {
    const size_t count = losses.size();
    if (letter == 'B' && count > 0) return {count - 1};
    if (letter == 'P' && count > 1) return {count - 2};
    std::vector<size_t> all;
    for (size_t i = 0; letter == 'S' && i < count; ++i) all.push_back(i);
    return all;
  }
  void backward(const std::vector<size_t>& which) {
    torch::Tensor sum = losses[which[0]];
    for (size_t i = 1; i < which.size(); ++i) sum = sum + losses[which[i]];
    sum.backward({}, /*retain_graph=*/true);
  }
};

struct Expected {
  std::vector<Tensors> gradients;  // by rank, zeros where there is none
  std::string error;               // instead
};

// Two plain models do what Python's class does.
Expected expect(const std::string& order, bool static_graph) {
  constexpr Rank kRanks = 2;
  std::vector<Mlp> models;
  std::vector<Losses> losses(kRanks);
  for (Rank rank = 0; rank < kRanks; ++rank) {
    models.emplace_back();
    fill(*models.back(), 3);
    for (auto& parameter : models.back()->parameters())
      parameter.mutable_grad() = torch::zeros_like(parameter);
  }
  std::vector<bool> reduces;   // by loss: its forward pass was outside no_sync()
  std::vector<bool> finished;  // by loss: its gradients were reduced
  bool awaiting = false;
  bool learned = false;
  int64_t batch = 0;
  const auto each_gradient = [&](size_t i, const auto& visit) {
    torch::Tensor& first = models[0]->parameters()[i].mutable_grad();
    visit(first, models[1]->parameters()[i].mutable_grad());
  };
  for (const char letter : order) {
    if (letter == 'Z') {
      for (auto& model : models)
        for (auto& parameter : model->parameters()) parameter.mutable_grad().zero_();
    } else if (letter == 'F' || letter == 'N') {
      for (Rank rank = 0; rank < kRanks; ++rank)
        losses[static_cast<size_t>(rank)].losses.push_back(
            loss_of(models[static_cast<size_t>(rank)](batch_of(rank, batch))));
      ++batch;
      reduces.push_back(letter == 'F');
      finished.push_back(false);
      awaiting = awaiting || letter == 'F';
    } else if (letter != 'E') {
      const std::vector<size_t> which = losses[0].chosen(letter);
      if (which.empty()) continue;
      bool late = false;
      bool open = false;
      for (const size_t i : which) {
        late = late || finished[i];
        open = open || (reduces[i] && !finished[i]);
      }
      if (late && !open) return {{}, "a second backward pass through the outputs of step"};
      if (static_graph && !awaiting && !learned) return {{}, "with static_graph the first one"};
      for (auto& one : losses) one.backward(which);
      if (!std::exchange(awaiting, false)) continue;
      learned = true;
      for (size_t i = 0; i < reduces.size(); ++i) finished[i] = reduces[i];
      torch::NoGradGuard no_grad;
      for (size_t i = 0; i < models[0]->parameters().size(); ++i) {
        each_gradient(i, [](torch::Tensor& a, torch::Tensor& b) {
          a.copy_(a * 0.5 + b * 0.5);
          b.copy_(a);
        });
      }
    }
  }
  Expected expected;
  for (auto& model : models) expected.gradients.push_back(testing::gradients_of(*model));
  return expected;
}

// Returns the error's text.
std::string walk(DistributedDataParallel<Mlp>& ddp, const std::string& order, Rank rank) {
  Losses losses;
  int64_t batch = 0;
  try {
    for (const char letter : order) {
      if (letter == 'Z') {
        for (auto& parameter : ddp.model()->parameters()) parameter.mutable_grad().zero_();
      } else if (letter == 'F') {
        losses.losses.push_back(loss_of(ddp(batch_of(rank, batch++))));
      } else if (letter == 'N') {
        const auto guard = ddp.no_sync();
        losses.losses.push_back(loss_of(ddp(batch_of(rank, batch++))));
      } else if (letter == 'E') {
        torch::NoGradGuard no_grad;
        ddp(batch_of(rank, 99));
      } else if (const auto which = losses.chosen(letter); !which.empty()) {
        losses.backward(which);
      }
    }
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalid);
    return error.what();
  }
  return "";
}

void compare(const std::shared_ptr<Communicator>& communicator, const std::string& order,
             const DistributedDataParallelOptions& options) {
  const Expected expected = expect(order, options.static_graph);
  Mlp model;
  fill(*model, 3);
  DistributedDataParallel ddp(communicator, model, options);
  for (auto& parameter : model->parameters())
    parameter.mutable_grad() = torch::zeros_like(parameter);
  const std::string error = walk(ddp, order, communicator->rank());
  if (!expected.error.empty()) {
    EXPECT_THAT(error, HasSubstr(expected.error)) << order;
  } else if (error.empty()) {
    expect_same_bits(testing::gradients_of(*model),
                     expected.gradients[static_cast<size_t>(communicator->rank())], order);
  } else {
    ADD_FAILURE() << order << ": " << error;
  }
}

// All orders of up to so many letters that begin with a forward pass, and longer ones by chance.
std::vector<std::string> orders(size_t longest, size_t by_chance) {
  std::vector<std::string> all{"F", "N"};
  for (size_t first = 0; all.back().size() < longest;) {
    const size_t end = all.size();
    for (; first < end; ++first)
      for (const char letter : kLetters) all.push_back(all[first] + letter);
  }
  std::mt19937 random(11);
  for (size_t i = 0; i < by_chance; ++i) {
    std::string order = "F";
    while (order.size() < 9) order += kLetters[random() % kLetters.size()];
    all.push_back(order);
  }
  return all;
}

void compare_all(const std::vector<std::string>& all,
                 const DistributedDataParallelOptions& options) {
  const auto walk_all = [&](RankContext& context) {
    const auto communicator = context.connect();
    for (const std::string& order : all) compare(communicator, order, options);
  };
  expect_all_fine(run_ranks(2, walk_all, std::chrono::seconds(600)));
}

TEST(DdpOrder, EveryOrderIsPythonsOrAnErrorThatNamesIt) {
  compare_all(orders(3, 100), {});
}

TEST(DdpOrder, EveryOrderWithUnusedParametersSearched) {
  compare_all(orders(2, 40), {.find_unused_parameters = true});
}

TEST(DdpOrder, EveryOrderOfAStaticGraph) {
  compare_all(orders(3, 60), {.static_graph = true});
}

TEST(DdpOrder, AccumulationWindowsOfAStaticGraphReduceInEveryWindow) {
  compare_all({"FBZNBNBFBZNBNBFBZNBNBFB", "FBZNBFBZFBZNBNBNBFB"}, {.static_graph = true});
}

TEST(DdpOrder, BucketViewsDoNotChangeAnyOrder) {
  compare_all(orders(2, 30), {.gradient_as_bucket_view = true});
}

// A model with two ways, one loss each, and a way for both.
struct TwoWaysImpl : torch::nn::Module {
  TwoWaysImpl() {
    left = register_module("left", Mlp());
    right = register_module("right", Mlp());
  }
  std::tuple<torch::Tensor, torch::Tensor> forward(const torch::Tensor& x) {
    return {left(x), right(x)};
  }
  Mlp left{nullptr}, right{nullptr};
};
TORCH_MODULE(TwoWays);

TEST(DdpOrder, LossesOfPartsThatShareNothingMayGoBackOneByOne) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    TwoWays model, whole;
    fill(*model, 4);
    fill(*whole, 4);
    const auto communicator = context.connect();
    DistributedDataParallel ddp(communicator, model), other(communicator, whole);
    for (int64_t step = 0; step < 3; ++step) {
      const auto [a, b] = ddp(batch_of(context.rank, step));
      loss_of(a).backward();
      loss_of(b).backward();
      const auto [c, d] = other(batch_of(context.rank, step));
      (loss_of(c) + loss_of(d)).backward();
      expect_same_bits(testing::gradients_of(*model), testing::gradients_of(*whole), "gradients");
    }
  }));
}

TEST(DdpOrder, AnExceptionCaughtInBackwardIsNamedInTheNextForward) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    Mlp model;
    const auto communicator = context.connect();
    auto ddp = std::make_unique<DistributedDataParallel<Mlp>>(communicator, model);
    loss_of((*ddp)(batch_of(context.rank, 0))).backward();
    // Between the two layers: the second's gradients are there, the first's never come.
    const unsigned hook = model->first->bias.register_hook(
        [](const torch::Tensor&) -> void { throw std::runtime_error("out of luck"); });
    EXPECT_THROW(loss_of((*ddp)(batch_of(context.rank, 1))).backward(), std::runtime_error);
    model->first->bias.remove_hook(hook);
    try {
      (*ddp)(batch_of(context.rank, 2));
      ADD_FAILURE() << "a half reduced step went unnoticed";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("the backward pass of step 2 was left by an exception"));
    }
    ddp.reset();
    DistributedDataParallel anew(communicator, model);
    loss_of(anew(batch_of(context.rank, 2))).backward();
  }));
}

TEST(DdpOrder, AnExceptionInTheForwardPassIsNobodysBusiness) {
  struct Picky : torch::nn::Module {
    Picky() { inner = register_module("inner", Mlp()); }
    torch::Tensor forward(const torch::Tensor& x, bool throws) {
      if (throws) throw std::runtime_error("bad batch");
      return inner(x);
    }
    Mlp inner{nullptr};
  };
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    const auto model = std::make_shared<Picky>();
    fill(*model, 3);
    DistributedDataParallel ddp(context.connect(), model);
    for (int64_t step = 0; step < 4; ++step) {
      const auto batch = batch_of(context.rank, step);
      EXPECT_THROW(ddp(batch, true), std::runtime_error);
      loss_of(ddp(batch, false)).backward();
    }
    EXPECT_EQ(ddp.step(), 4U);
  }));
}

// The hidden state of one step goes into the next, and backward through both.
TEST(DdpOrder, BackwardThroughThePassBeforeIsFineWithTheNewOne) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    Mlp model;
    fill(*model, 3);
    DistributedDataParallel ddp(context.connect(), model);
    torch::Tensor before;
    for (int64_t step = 0; step < 3; ++step) {
      const auto output = ddp(batch_of(context.rank, step));
      auto loss = loss_of(output);
      if (before.defined()) loss = loss + (before * output).sum();
      loss.backward({}, /*retain_graph=*/true);
      before = output;
    }
  }));
}

// autograd::grad() goes through the outputs and brings no gradient to reduce: in a static graph it
// is not the pass to learn from.
TEST(DdpOrder, GradientPenaltiesAreReducedInEveryStep) {
  std::vector<Tensors> by_option;
  const auto train = [&](const DistributedDataParallelOptions& options) {
    std::vector<Tensors> seen(2);
    expect_all_fine(run_ranks(2, [&](RankContext& context) {
      Mlp model;
      fill(*model, 3);
      DistributedDataParallel ddp(context.connect(), model, options);
      for (int64_t step = 0; step < 3; ++step) {
        ddp.zero_grad();
        const auto x = batch_of(context.rank, step).requires_grad_();
        const auto output = ddp(x);
        const auto slope = torch::autograd::grad({output.sum()}, {x}, {}, true, true)[0];
        (loss_of(output) + slope.square().mean()).backward();
        for (const auto& gradient : gradients_of(*model))
          seen[static_cast<size_t>(context.rank)].push_back(gradient);
      }
      EXPECT_EQ(ddp.step(), 3U);
    }));
    expect_same_bits(seen[0], seen[1], "ranks");
    by_option.push_back(seen[0]);
  };
  train({});
  train({.static_graph = true});
  train({.find_unused_parameters = true});
  train({.find_unused_parameters = true, .static_graph = true});
  train({.codec = testing::codec("zstd"), .static_graph = true});
  for (const Tensors& gradients : by_option)
    expect_same_bits(gradients, by_option[0], "an option's gradients");
}

}  // namespace
}  // namespace longhaul

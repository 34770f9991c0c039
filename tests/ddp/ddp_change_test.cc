// A model that changes after it was wrapped: its new parameters are reduced as the old ones were,
// or every rank hears why not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <sstream>

#include "tests/ddp/training.h"

namespace longhaul {
namespace {

using testing::batch_of;
using testing::codec;
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

std::string saved(const Mlp& model) {
  std::ostringstream out;
  torch::save(model, out);
  return out.str();
}

void load(Mlp& model, const std::string& bytes) {
  std::istringstream in(bytes);
  torch::load(model, in);
}

// What two ranks' gradients of one step average to, of a plain model in the state of this one.
Tensors lone_average(const Mlp& model, int64_t step) {
  Tensors average;
  for (Rank rank = 0; rank < 2; ++rank) {
    const auto copy =
        std::dynamic_pointer_cast<testing::MlpImpl>(Mlp(model->first->weight.size(0)).ptr());
    for (size_t i = 0; i < copy->parameters().size(); ++i) {
      torch::Tensor parameter = copy->parameters()[i];
      const torch::Tensor source = model->parameters()[i];
      parameter.set_data(source.detach().clone());
      parameter.set_requires_grad(source.requires_grad());
    }
    const auto type = copy->first->weight.scalar_type();
    loss_of(copy->forward(batch_of(rank, step).to(type))).backward();
    const Tensors mine = gradients_of(*copy);
    for (size_t i = 0; i < mine.size(); ++i) {
      if (rank == 0) average.push_back(mine[i].defined() ? mine[i] * 0.5 : torch::Tensor());
      if (rank == 1 && mine[i].defined()) average[i] = average[i] + mine[i] * 0.5;
    }
  }
  return average;
}

using Ddp = DistributedDataParallel<Mlp>;
using Act = std::function<void(Mlp& model, Rank rank)>;

// Trains two steps, changes the model, and trains on: each step's gradients must be the average.
void change_after_two_steps(const Act& act, const DistributedDataParallelOptions& options = {}) {
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Mlp model;
    fill(*model, 1);
    Ddp ddp(context.connect(), model, options);
    for (int64_t step = 0; step < 5; ++step) {
      if (step == 2) act(model, context.rank);
      const Tensors expected = lone_average(model, step);
      model->zero_grad();
      const auto type = model->first->weight.scalar_type();
      loss_of(ddp(batch_of(context.rank, step).to(type))).backward();
      expect_same_bits(gradients_of(*model), expected, "step " + std::to_string(step));
      torch::NoGradGuard no_grad;
      for (auto& parameter : model->parameters())
        if (parameter.grad().defined()) parameter.sub_(parameter.grad(), 0.1);
    }
    EXPECT_EQ(ddp.step(), 5U);
  }));
}

std::vector<DistributedDataParallelOptions> many_options() {
  return {{},
          {.codec = codec("zstd")},
          {.gradient_as_bucket_view = true},
          {.find_unused_parameters = true},
          {.static_graph = true},
          {.bucket_cap_mb = 64.0 / (1024 * 1024)}};
}

TEST(DdpChange, LoadingACheckpointJustWorks) {
  Mlp other;
  fill(*other, 9);
  const std::string bytes = saved(other);
  for (const auto& options : many_options())
    change_after_two_steps([&](Mlp& model, Rank) { load(model, bytes); }, options);
}

TEST(DdpChange, ConvertingToAnotherTypeJustWorks) {
  for (const auto& options : many_options())
    change_after_two_steps([](Mlp& model, Rank) { model->to(torch::kDouble); }, options);
}

TEST(DdpChange, FreezingAndUnfreezingJustWork) {
  for (const auto& options : many_options()) {
    change_after_two_steps([](Mlp& model, Rank) { model->first->weight.set_requires_grad(false); },
                           options);
    change_after_two_steps(
        [](Mlp& model, Rank) {
          for (auto& parameter : model->first->parameters()) parameter.set_requires_grad(false);
        },
        options);
  }
}

TEST(DdpChange, ReplacingMemoryJustWorks) {
  change_after_two_steps([](Mlp& model, Rank) {
    for (auto& parameter : model->parameters()) parameter.set_data(parameter.detach() * 2);
  });
}

// What was frozen at the start is hooked when it thaws, and set to rank 0's.
TEST(DdpChange, ThawingWhatWasFrozenFromTheStartJustWorks) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    Mlp model;
    fill(*model, 1);
    model->first->weight.set_requires_grad(false);
    Ddp ddp(context.connect(), model);
    loss_of(ddp(batch_of(context.rank, 0))).backward();
    model->first->weight.set_requires_grad(true);
    model->zero_grad();
    const Tensors expected = lone_average(model, 1);
    loss_of(ddp(batch_of(context.rank, 1))).backward();
    expect_same_bits(gradients_of(*model), expected, "thawed");
  }));
}

struct GrowingImpl : torch::nn::Module {
  GrowingImpl() { body = register_module("body", Mlp()); }
  torch::Tensor forward(const torch::Tensor& x) {
    const auto y = body(x);
    return scale.defined() ? y * scale : y;
  }
  Mlp body{nullptr};
  torch::Tensor scale;
};
TORCH_MODULE(Growing);

TEST(DdpChange, AddedParametersAreReducedAndSetToRankZeros) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    Growing model;
    fill(*model, 1);
    DistributedDataParallel ddp(context.connect(), model);
    loss_of(ddp(batch_of(context.rank, 0))).backward();
    model->scale = model->register_parameter("scale", torch::full({3}, 5.0 + context.rank));
    loss_of(ddp(batch_of(context.rank, 1))).backward();
    EXPECT_TRUE((model->scale == 5).all().item<bool>()) << model->scale;
    ASSERT_TRUE(model->scale.grad().defined());
  }));
}

TEST(DdpChange, ReplacedSubmodulesAreHooked) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    Mlp model;
    fill(*model, 1);
    Ddp ddp(context.connect(), model);
    loss_of(ddp(batch_of(context.rank, 0))).backward();
    torch::nn::Linear fresh(17, 3);
    fill(*fresh, 50 + static_cast<uint64_t>(context.rank));  // rank 0's will hold
    model->second = model->replace_module("second", fresh);
    Mlp as_rank_0;
    fill(*as_rank_0, 1);
    fill(*as_rank_0->second, 50);
    model->zero_grad();
    loss_of(ddp(batch_of(context.rank, 1))).backward();
    expect_same_bits(gradients_of(*model), lone_average(as_rank_0, 1), "gradients");
  }));
}

// As in adversarial training: the whole model is frozen for a while and only passed through.
TEST(DdpChange, FreezingEverythingForAWhileCostsNothing) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    Mlp model;
    fill(*model, 1);
    Ddp ddp(context.connect(), model);
    for (int64_t step = 0; step < 4; ++step) {
      for (auto& parameter : model->parameters()) parameter.set_requires_grad(false);
      const auto x = batch_of(context.rank, step).requires_grad_();
      loss_of(ddp(x)).backward();
      for (auto& parameter : model->parameters()) parameter.set_requires_grad(true);
      model->zero_grad();
      const Tensors expected = lone_average(model, step);
      loss_of(ddp(batch_of(context.rank, step))).backward();
      expect_same_bits(gradients_of(*model), expected, "step " + std::to_string(step));
    }
    EXPECT_EQ(ddp.step(), 4U);
  }));
}

TEST(DdpChange, ErrorFeedbackIsKept) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    Mlp model;
    fill(*model, 1);
    Ddp ddp(context.connect(), model, {.codec = codec("rms"), .error_feedback = true});
    loss_of(ddp(batch_of(context.rank, 0))).backward();
    const NamedTensors before = ddp.error_feedback();
    model->first->weight.set_requires_grad(false);
    ddp(batch_of(context.rank, 1));
    const NamedTensors after = ddp.error_feedback();
    ASSERT_EQ(after.size() + 1, before.size());
    for (const auto& [name, residual] : after) {
      const auto found = std::find_if(before.begin(), before.end(),
                                      [&](const auto& one) { return one.first == name; });
      ASSERT_NE(found, before.end());
      EXPECT_TRUE(residual.equal(found->second)) << name;
    }
  }));
}

// Every rank must hear of it, in that step, with `says` in it.
void expect_refusal(const Act& act, const std::string& says,
                    const DistributedDataParallelOptions& options = {}) {
  const auto reports = run_ranks(2, [&](RankContext& context) {
    Mlp model;
    fill(*model, 1);
    Ddp ddp(context.connect(), model, options);
    loss_of(ddp(batch_of(context.rank, 0))).backward();
    act(model, context.rank);
    const auto type = model->first->weight.scalar_type();
    loss_of(ddp(batch_of(context.rank, 1).to(type))).backward();
  });
  for (const auto& report : reports) EXPECT_THAT(report.what(), HasSubstr(says));
}

TEST(DdpChange, AChangeOnOneRankOnlyIsNamedOnAll) {
  for (const Rank who : {0, 1}) {
    expect_refusal(
        [who](Mlp& model, Rank rank) {
          if (rank == who) model->first->weight.set_requires_grad(false);
        },
        "parameter 'first.weight' was frozen");
    expect_refusal(
        [who](Mlp& model, Rank rank) {
          if (rank == who) model->to(torch::kDouble);
        },
        "parameter 'first.weight' became double");
  }
}

TEST(DdpChange, ACheckpointLoadedOnOneRankOnlyIsNamedOnAll) {
  Mlp other;
  fill(*other, 9);
  const std::string bytes = saved(other);
  for (const Rank who : {0, 1}) {
    for (const char* name : {"none", "zstd"}) {
      expect_refusal(
          [&](Mlp& model, Rank rank) {
            if (rank == who) load(model, bytes);
          },
          "first.weight'", {.codec = codec(name)});
      expect_refusal(
          [&](Mlp& model, Rank rank) {
            torch::NoGradGuard no_grad;
            if (rank == who) model->second->bias.copy_(other->second->bias);
          },
          "parameter 'second.bias' of rank 1 has other values than rank 0's in step 2",
          {.codec = codec(name)});
    }
  }
}

// Rank 0 evaluates with averaged weights and puts its own back.
TEST(DdpChange, ValuesThatComeBackAreNobodysBusiness) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    Mlp model;
    fill(*model, 1);
    Ddp ddp(context.connect(), model);
    for (int64_t step = 0; step < 3; ++step) {
      if (context.rank == 0) {
        torch::NoGradGuard no_grad;
        const Tensors own = testing::copies(model->parameters());
        for (auto& parameter : model->parameters()) parameter.mul_(0.5);
        for (size_t i = 0; i < own.size(); ++i) model->parameters()[i].copy_(own[i]);
      }
      loss_of(ddp(batch_of(context.rank, step))).backward();
    }
  }));
}

TEST(DdpChange, WhatCannotBeReducedAnyMoreIsRefused) {
  expect_refusal([](Mlp& model, Rank) { model->to(torch::kHalf); },
                 "codec bf16 cannot carry Half parameter 'first.weight'", {.codec = codec("bf16")});
  expect_refusal([](Mlp& model, Rank) { model->to(torch::kDouble); },
                 "error_feedback takes float parameters",
                 {.codec = codec("rms"), .error_feedback = true});
}

}  // namespace
}  // namespace longhaul

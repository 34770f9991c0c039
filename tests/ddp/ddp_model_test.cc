// Which models DDP takes: frozen, shared, unused, mixed; what they may return; buffers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <mutex>

#include "tests/ddp/training.h"

namespace longhaul {
namespace {

using testing::batch_of;
using testing::codec;
using testing::expect_all_fine;
using testing::fill;
using testing::loss_of;
using testing::Mlp;
using testing::RankContext;
using testing::run_ranks;
using testing::same_bits;

torch::Tensor average(const std::vector<torch::Tensor>& tensors) {
  return torch::stack(tensors).mean(0);
}

// Gradients by rank, filled by the threads of a test.
class Collected {
 public:
  explicit Collected(int size) : values_(static_cast<size_t>(size)) {}
  void put(Rank rank, const torch::Tensor& value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    values_[static_cast<size_t>(rank)] = value.detach().clone();
  }
  const std::vector<torch::Tensor>& values() const { return values_; }

 private:
  std::mutex mutex_;
  std::vector<torch::Tensor> values_;
};

// Takes one of two ways through the model.
struct ForkImpl : torch::nn::Module {
  ForkImpl() {
    left = register_module("left", Mlp());
    right = register_module("right", Mlp());
  }
  torch::Tensor forward(const torch::Tensor& input, bool go_left) {
    return go_left ? left(input) : right(input);
  }
  Mlp left{nullptr}, right{nullptr};
};
TORCH_MODULE(Fork);

TEST(DdpModel, UnusedParametersGetTheOthersAverage) {
  for (const char* name : {"none", "zstd"}) {
    expect_all_fine(run_ranks(3, [&](RankContext& context) {
      Fork model;
      fill(*model, 7);
      DistributedDataParallel ddp(context.connect(), model,
                                  {.codec = codec(name), .find_unused_parameters = true});
      for (int64_t step = 0; step < 3; ++step) {
        ddp.zero_grad();
        loss_of(ddp(batch_of(0, step), context.rank == 0)).backward();
        Fork lone;
        fill(*lone, 7);
        loss_of(lone(batch_of(0, step), true)).backward();
        loss_of(lone(batch_of(0, step), false)).backward();
        const auto left = lone->left->first->weight.grad() / 3;
        const auto right = lone->right->first->weight.grad() * 2 / 3;
        EXPECT_TRUE(torch::allclose(model->left->first->weight.grad(), left, 1e-5, 1e-7));
        EXPECT_TRUE(torch::allclose(model->right->first->weight.grad(), right, 1e-5, 1e-7));
      }
    }));
  }
}

TEST(DdpModel, ParametersThatNoRankUsedKeepNoGradient) {
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Fork model;
    DistributedDataParallel ddp(context.connect(), model, {.find_unused_parameters = true});
    loss_of(ddp(batch_of(context.rank, 0), true)).backward();
    EXPECT_TRUE(model->left->first->weight.grad().defined());
    EXPECT_FALSE(model->right->first->weight.grad().defined());
  }));
}

// In the step itself, by name, with the option of ours to set.
TEST(DdpModel, UnusedParametersWithoutTheOptionAreExplained) {
  for (const bool is_static : {false, true}) {
    expect_all_fine(run_ranks(2, [&](RankContext& context) {
      Fork model;
      DistributedDataParallel ddp(context.connect(), model, {.static_graph = is_static});
      if (is_static) loss_of(ddp(batch_of(context.rank, 0), false)).backward();
      try {
        loss_of(ddp(batch_of(context.rank, 1), true)).backward();
        ADD_FAILURE() << "backward should say what is wrong";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kInvalid);
        EXPECT_THAT(error.what(),
                    ::testing::HasSubstr(is_static ? "parameter 'left." : "'right.first.weight'"));
        EXPECT_THAT(error.what(), ::testing::HasSubstr(is_static ? "with static_graph"
                                                                 : "find_unused_parameters"));
        EXPECT_THAT(error.what(), ::testing::Not(::testing::HasSubstr("TORCH_")));
      }
      EXPECT_THROW(ddp(batch_of(context.rank, 2), true), Error) << "it cannot go on";
    }));
  }
}

// Unused in one step and not in the next: the crash of a Reducer without its Logger.
TEST(DdpModel, WhatIsUsedMayChangeFromStepToStep) {
  for (const char* name : {"none", "zstd"}) {
    for (const bool skip : {false, true}) {
      expect_all_fine(run_ranks(2, [&](RankContext& context) {
        Fork model;
        fill(*model, 7);
        DistributedDataParallel ddp(context.connect(), model,
                                    {.codec = codec(name),
                                     .find_unused_parameters = true,
                                     .skip_all_reduce_unused_params = skip});
        for (int64_t step = 0; step < 6; ++step) {
          ddp.zero_grad();
          const bool both = (step + context.rank) % 3 == 0;
          auto loss = loss_of(ddp(batch_of(context.rank, step), step % 2 == 0));
          (both ? loss * 2 : loss).backward();
          const auto& used = step % 2 == 0 ? model->left : model->right;
          const auto& other = step % 2 == 0 ? model->right : model->left;
          EXPECT_TRUE(used->first->weight.grad().defined());
          EXPECT_FALSE(other->first->weight.grad().defined());
        }
      }));
    }
  }
}

TEST(DdpModel, FrozenParametersAreLeftAlone) {
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Mlp model;
    fill(*model, static_cast<uint64_t>(context.rank));
    model->first->weight.set_requires_grad(false);
    DistributedDataParallel ddp(context.connect(), model);
    Mlp rank_0;
    fill(*rank_0, 0);
    EXPECT_TRUE(same_bits(model->first->weight, rank_0->first->weight)) << "broadcast at the start";
    loss_of(ddp(batch_of(context.rank, 0))).backward();
    EXPECT_FALSE(model->first->weight.grad().defined());
    EXPECT_TRUE(model->first->bias.grad().defined());
  }));
}

// Tied weights: the same tensor under two names, and used twice in one pass.
struct TiedImpl : torch::nn::Module {
  TiedImpl() {
    in = register_module("in", torch::nn::Linear(torch::nn::LinearOptions(7, 7).bias(false)));
    out = register_module("out", torch::nn::Linear(torch::nn::LinearOptions(7, 7).bias(false)));
    out->weight = in->weight;
    out->register_parameter("tied", in->weight);
  }
  torch::Tensor forward(const torch::Tensor& x) { return torch::tanh(in(torch::tanh(in(x)))); }
  torch::nn::Linear in{nullptr}, out{nullptr};
};
TORCH_MODULE(Tied);

TEST(DdpModel, SharedParametersAreReducedOnce) {
  Collected lone(3);
  for (Rank rank = 0; rank < 3; ++rank) {
    Tied model;
    fill(*model, 3);
    loss_of(model(batch_of(rank, 0))).backward();
    lone.put(rank, model->in->weight.grad());
  }
  expect_all_fine(run_ranks(3, [&](RankContext& context) {
    Tied model;
    fill(*model, 3);
    // The weight that "out" was born with is never used.
    DistributedDataParallel ddp(context.connect(), model, {.find_unused_parameters = true});
    loss_of(ddp(batch_of(context.rank, 0))).backward();
    EXPECT_TRUE(torch::allclose(model->in->weight.grad(), average(lone.values()), 1e-5, 1e-7));
  }));
}

struct MixedImpl : torch::nn::Module {
  MixedImpl() {
    a = register_parameter("a", torch::ones({7}));
    b = register_parameter("b", torch::ones({7}, torch::kDouble));
    c = register_parameter("c", torch::ones({7}, torch::kBFloat16));
    d = register_parameter("d", torch::ones({7}, torch::kHalf));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    return (x * a).sum() + (x.to(torch::kDouble) * b).sum() +
           (x.to(torch::kBFloat16) * c).sum().to(torch::kDouble) +
           (x.to(torch::kHalf) * d).sum().to(torch::kDouble);
  }
  torch::Tensor a, b, c, d;
};
TORCH_MODULE(Mixed);

TEST(DdpModel, EachTypeIsReducedInItsOwn) {
  for (const char* name : {"none", "zstd"}) {
    expect_all_fine(run_ranks(2, [&](RankContext& context) {
      Mixed model;
      DistributedDataParallel ddp(context.connect(), model, {.codec = codec(name)});
      ddp(torch::full({7}, context.rank == 0 ? 1.0 : 2.0)).backward();  // the average is 1.5
      for (const auto& parameter : model->parameters()) {
        EXPECT_EQ(parameter.grad().dtype(), parameter.dtype());
        EXPECT_TRUE((parameter.grad() == 1.5).all().item<bool>()) << parameter.grad();
      }
    }));
  }
}

struct NormedImpl : torch::nn::Module {
  NormedImpl() { norm = register_module("norm", torch::nn::BatchNorm1d(7)); }
  torch::Tensor forward(const torch::Tensor& x) { return norm(x); }
  torch::nn::BatchNorm1d norm{nullptr};
};
TORCH_MODULE(Normed);

TEST(DdpModel, BuffersFollowRankZero) {
  expect_all_fine(run_ranks(3, [&](RankContext& context) {
    Normed model;
    auto& mean = model->norm->running_mean;
    mean.fill_(100 + context.rank);
    DistributedDataParallel ddp(context.connect(), model);
    EXPECT_TRUE((mean == 100).all().item<bool>()) << "at the start";
    mean.fill_(100 * context.rank);
    loss_of(ddp(batch_of(context.rank, 0))).backward();
    EXPECT_TRUE((mean.abs() < 1).all().item<bool>()) << "rank 0's 0, moved by one batch: " << mean;
    mean.fill_(100 * context.rank);
    model->eval();
    ddp(batch_of(context.rank, 1));
    EXPECT_TRUE((mean == 0).all().item<bool>()) << "before an evaluation too";
  }));
}

// Batch norm in training saves its running statistics for backward without reading them there.
TEST(DdpModel, BuffersMayBeSetBetweenTwoForwardsAndABackward) {
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Normed model;
    DistributedDataParallel ddp(context.connect(), model);
    for (int64_t step = 0; step < 3; ++step) {
      const auto first = ddp(batch_of(context.rank, 2 * step));
      const auto second = ddp(batch_of(context.rank, 2 * step + 1));
      (loss_of(first) + loss_of(second)).backward();
    }
    EXPECT_TRUE(model->norm->weight.grad().defined());
  }));
}

// Named on every rank, and the world is not spent by it.
TEST(DdpModel, BuffersThatCannotBeSetAreNamed) {
  struct Case {
    torch::Tensor buffer;
    const char* says;
  };
  const std::vector<Case> cases{
      {torch::ones({3}, torch::kShort), "buffer 'odd' is Short, which cannot be broadcast"},
      {torch::ones({3}, torch::kComplexFloat), "buffer 'odd' is ComplexFloat"},
      {torch::ones({1}).expand({4}), "buffer 'odd' has several elements in one place"},
      {torch::eye(3).to_sparse(), "buffer 'odd' has the layout Sparse"}};
  for (const Case& one : cases) {
    expect_all_fine(run_ranks(2, [&](RankContext& context) {
      const auto communicator = context.connect();
      const auto expect_named = [&](const std::function<void()>& act) {
        try {
          act();
          ADD_FAILURE() << one.says;
        } catch (const Error& error) {
          EXPECT_EQ(error.kind(), ErrorKind::kInvalid);
          EXPECT_THAT(error.what(), ::testing::StartsWith(one.says));
          EXPECT_THAT(error.what(), ::testing::HasSubstr("broadcast_buffers"));
        }
      };
      Mlp born_so;
      born_so->register_buffer("odd", one.buffer);
      expect_named([&] { DistributedDataParallel ddp(communicator, born_so); });
      Mlp became_so;
      DistributedDataParallel ddp(communicator, became_so);
      became_so->register_buffer("odd", one.buffer);
      expect_named([&] { ddp(batch_of(context.rank, 0)); });
      DistributedDataParallel apart(communicator, born_so, {.broadcast_buffers = false});
      loss_of(apart(batch_of(context.rank, 0))).backward();
    }));
  }
}

TEST(DdpModel, BuffersOfEveryTypeThatCanBeSetAreSet) {
  for (const auto type : {torch::kFloat, torch::kDouble, torch::kHalf, torch::kBFloat16,
                          torch::kChar, torch::kByte, torch::kBool, torch::kInt, torch::kLong}) {
    expect_all_fine(run_ranks(2, [&](RankContext& context) {
      Mlp model;
      model->register_buffer("odd", torch::full({3}, context.rank == 0 ? 1 : 0).to(type));
      DistributedDataParallel ddp(context.connect(), model);
      EXPECT_TRUE((model->named_buffers()["odd"] == 1).all().item<bool>()) << type;
    }));
  }
}

TEST(DdpModel, BuffersStayApartWhenAsked) {
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Normed model;
    model->norm->running_mean.fill_(context.rank);
    DistributedDataParallel ddp(context.connect(), model, {.broadcast_buffers = false});
    model->eval();
    ddp(batch_of(context.rank, 0));
    EXPECT_TRUE((model->norm->running_mean == context.rank).all().item<bool>());
  }));
}

// A parameter used twice through separate calls, which only a static graph allows with unused ones.
TEST(DdpModel, StaticGraphsReduceFromTheFirstStepOn) {
  for (const char* name : {"none", "zstd"}) {
    expect_all_fine(run_ranks(2, [&](RankContext& context) {
      Fork model;
      fill(*model, 7);
      DistributedDataParallel ddp(context.connect(), model,
                                  {.codec = codec(name), .static_graph = true});
      for (int64_t step = 0; step < 4; ++step) {
        ddp.zero_grad();
        loss_of(ddp(batch_of(context.rank, step), true)).backward();
        std::vector<torch::Tensor> lone;
        for (Rank rank = 0; rank < 2; ++rank) {
          Fork other;
          fill(*other, 7);
          loss_of(other(batch_of(rank, step), true)).backward();
          lone.push_back(other->left->first->weight.grad());
        }
        EXPECT_TRUE(torch::allclose(model->left->first->weight.grad(), average(lone), 1e-5, 1e-7))
            << "step " << step;
      }
    }));
  }
}

struct Answer {
  torch::Tensor used;
  std::vector<torch::Tensor> unused;
};
template <typename Visitor>
void for_each_tensor(Answer& answer, Visitor&& visit) {
  visit(answer.used);
  visit(answer.unused);
}
struct Riddle {
  torch::Tensor inside;
};

// Returns what `Output` asks for.
template <typename Output>
struct AnswerModule : torch::nn::Module {
  AnswerModule() { body = register_module("body", Fork()); }
  Output forward(const torch::Tensor& x) {
    const auto left = body(x, true);
    if constexpr (std::is_same_v<Output, Answer>) {
      return {left, {body(x, false)}};
    } else if constexpr (std::is_same_v<Output, std::vector<torch::Tensor>>) {
      return {left, body(x, false)};
    } else if constexpr (std::is_same_v<Output, Riddle>) {
      return {left};
    } else {
      return Output(left, body(x, false));
    }
  }
  Fork body{nullptr};
};

// With find_unused_parameters the loss may use some of the outputs; in a static graph all of them.
template <typename Output, typename Pick>
void train_on_part_of(const Pick& pick) {
  for (const bool is_static : {false, true}) {
    expect_all_fine(run_ranks(2, [&](RankContext& context) {
      auto model = std::make_shared<AnswerModule<Output>>();
      fill(*model, 5);
      DistributedDataParallel ddp(
          context.connect(), model,
          {.find_unused_parameters = !is_static, .static_graph = is_static});
      for (int64_t step = 0; step < 3; ++step) {
        ddp.zero_grad();
        Output output = ddp(batch_of(context.rank, step));
        auto loss = loss_of(pick(output));
        if (is_static) {
          for (const auto* tensor : detail::find_tensors(output).tensors)
            loss = loss + tensor->sum();
        }
        loss.backward();
        EXPECT_TRUE(model->body->left->first->weight.grad().defined());
        EXPECT_EQ(model->body->right->first->weight.grad().defined(), is_static);
      }
    }));
  }
}

TEST(DdpModel, OutputsMayBeOfAnyShape) {
  train_on_part_of<std::tuple<torch::Tensor, torch::Tensor>>(
      [](auto& output) { return std::get<0>(output); });
  train_on_part_of<std::pair<torch::Tensor, torch::Tensor>>(
      [](auto& output) { return output.first; });
  train_on_part_of<std::vector<torch::Tensor>>([](auto& output) { return output[0]; });
  train_on_part_of<Answer>([](auto& output) { return output.used; });
}

TEST(DdpModel, AnOutputNobodyCanLookIntoIsAnErrorOnlyWhereItMatters) {
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    const auto communicator = context.connect();
    auto model = std::make_shared<AnswerModule<Riddle>>();
    {
      DistributedDataParallel ddp(communicator, model, {.find_unused_parameters = true});
      try {
        ddp(batch_of(context.rank, 0));
        ADD_FAILURE() << "a Riddle hides its tensor";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kInvalid);
        EXPECT_THAT(error.what(), ::testing::HasSubstr("Riddle"));
      }
    }
    for (auto& parameter : model->body->right->parameters()) parameter.set_requires_grad(false);
    DistributedDataParallel ddp(communicator, model);
    loss_of(ddp(batch_of(context.rank, 0)).inside).backward();
  }));
}

// libtorch's own loader and sampler, as in any libtorch program.
TEST(DdpModel, DistributedSamplersAndLoadersWorkUnchanged) {
  struct Numbers : torch::data::datasets::Dataset<Numbers> {
    torch::data::Example<> get(size_t index) override {
      return {torch::full({7}, static_cast<double>(index) / 20), torch::ones({3})};
    }
    std::optional<size_t> size() const override { return 20; }
  };
  Collected seen(2);
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Mlp model;
    DistributedDataParallel ddp(context.connect(), model);
    torch::optim::SGD sgd(model->parameters(), 0.1);
    torch::data::samplers::DistributedRandomSampler sampler(
        20, 2, static_cast<size_t>(context.rank), /*allow_duplicates=*/false);
    auto loader = torch::data::make_data_loader(Numbers().map(torch::data::transforms::Stack<>()),
                                                sampler, /*batch_size=*/5);
    std::vector<torch::Tensor> rows;
    for (auto& batch : *loader) {
      sgd.zero_grad();
      torch::mse_loss(ddp(batch.data), batch.target).backward();
      sgd.step();
      rows.push_back(batch.data.select(1, 0));
    }
    seen.put(context.rank, torch::cat(rows));
  }));
  const auto all = std::get<0>(torch::cat(seen.values()).sort());
  EXPECT_TRUE(torch::allclose(all, torch::arange(20) / 20.0)) << "each example once: " << all;
}

}  // namespace
}  // namespace longhaul

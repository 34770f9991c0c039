// Uneven inputs: ranks that are through take part with gradients of zero.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>

#include "longhaul/ddp/join.h"
#include "tests/ddp/training.h"

namespace longhaul {
namespace {

using testing::batch_of;
using testing::codec;
using testing::copies;
using testing::expect_all_fine;
using testing::expect_same_bits;
using testing::fill;
using ::testing::HasSubstr;
using testing::loss_of;
using testing::Mlp;
using testing::RankContext;
using testing::run_ranks;
using Tensors = std::vector<torch::Tensor>;
using Steps = std::vector<int64_t>;  // by rank

void descend(const Mlp& model) {
  torch::NoGradGuard no_grad;
  for (auto& parameter : model->parameters())
    if (parameter.grad().defined()) parameter -= 0.1 * parameter.grad();
}

// Every rank's parameters after training within a Join.
std::vector<Tensors> train(const Steps& steps, const DistributedDataParallelOptions& options,
                           const JoinOptions& join_options = {}) {
  std::vector<Tensors> parameters(steps.size());
  expect_all_fine(run_ranks(static_cast<int>(steps.size()), [&](RankContext& context) {
    const auto rank = static_cast<size_t>(context.rank);
    Mlp model;
    fill(*model, 3);
    DistributedDataParallel ddp(context.connect(), model, options);
    for (int round = 0; round < 2; ++round) {  // a second epoch in a Join of its own
      Join join(join_options, ddp);
      for (int64_t step = 0; step < steps[rank]; ++step) {
        ddp.zero_grad();
        loss_of(ddp(batch_of(context.rank, 10 * round + step))).backward();
        descend(model);
      }
      join.finish();
    }
    parameters[rank] = copies(model->parameters());
  }));
  return parameters;
}

// The same on one rank, by hand.
Tensors expected(const Steps& steps, bool divide_by_all) {
  Mlp model;
  fill(*model, 3);
  for (int round = 0; round < 2; ++round) {
    for (int64_t step = 0; step < *std::max_element(steps.begin(), steps.end()); ++step) {
      model->zero_grad();
      int active = 0;
      for (size_t rank = 0; rank < steps.size(); ++rank) {
        if (step >= steps[rank]) continue;
        ++active;
        loss_of(model(batch_of(static_cast<Rank>(rank), 10 * round + step))).backward();
      }
      for (auto& parameter : model->parameters())
        parameter.mutable_grad() /= divide_by_all ? static_cast<double>(steps.size()) : active;
      descend(model);
    }
  }
  return copies(model->parameters());
}

void expect_close(const Tensors& a, const Tensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(torch::allclose(a[i], b[i], 1e-4, 1e-5)) << i;
}

TEST(Join, RanksThatAreThroughCountAsZero) {
  const std::vector<DistributedDataParallelOptions> choices = {
      {}, {.find_unused_parameters = true}, {.codec = codec("zstd")}};
  for (const Steps& steps :
       {Steps{3}, Steps{3, 1}, Steps{0, 4}, Steps{1, 4, 2}, Steps{3, 0, 2, 2}}) {
    for (const DistributedDataParallelOptions& options : choices) {
      const auto parameters = train(steps, options);
      for (const Tensors& one : parameters) expect_same_bits(one, parameters[0], "parameters");
      expect_close(parameters[0], expected(steps, true));
    }
  }
}

TEST(Join, BucketsOfAllKindsAreTakenPartIn) {
  for (const DistributedDataParallelOptions& options :
       {DistributedDataParallelOptions{.bucket_cap_mb = 0.0001},
        DistributedDataParallelOptions{.bucket_cap_mb = 0.0001, .gradient_as_bucket_view = true},
        DistributedDataParallelOptions{.bucket_cap_mb = 0.0001, .static_graph = true},
        DistributedDataParallelOptions{.reduce_dtype = torch::kFloat64}}) {
    const Steps steps = {1, 4, 2};
    const auto parameters = train(steps, options);
    for (const Tensors& one : parameters) expect_same_bits(one, parameters[0], "parameters");
    expect_close(parameters[0], expected(steps, true));
  }
}

TEST(Join, MayDivideByThoseThatStillHaveInputs) {
  for (const Steps& steps : {Steps{3, 1}, Steps{1, 4, 2}}) {
    const auto parameters = train(steps, {}, {.divide_by_initial_world_size = false});
    expect_close(parameters[0], expected(steps, false));
  }
  const auto reports = run_ranks(2, [&](RankContext& context) {
    Mlp model;
    DistributedDataParallel ddp(context.connect(), model, {.codec = codec("zstd")});
    Join join(JoinOptions{.divide_by_initial_world_size = false}, ddp);
  });
  EXPECT_THAT(reports[0].what(), HasSubstr("divide_by_initial_world_size"));
}

// A rank without inputs would send zeros for buckets that the others skip.
TEST(Join, TakesNoSkippedBuckets) {
  const auto reports = run_ranks(2, [&](RankContext& context) {
    Mlp model;
    DistributedDataParallel ddp(
        context.connect(), model,
        {.find_unused_parameters = true, .skip_all_reduce_unused_params = true});
    Join join(ddp);
  });
  EXPECT_THAT(reports[0].what(), HasSubstr("skip_all_reduce_unused_params"));
}

TEST(Join, AllThrowWhenAskedToEndEarly) {
  const auto reports = run_ranks(3, [&](RankContext& context) {
    Mlp model;
    fill(*model, 3);
    DistributedDataParallel ddp(context.connect(), model);
    Join join(JoinOptions{.throw_on_early_end = true}, ddp);
    for (int64_t step = 0; step < 2 + (context.rank == 1 ? 0 : 3); ++step)
      loss_of(ddp(batch_of(context.rank, step))).backward();
    join.finish();
    ADD_FAILURE() << "rank " << context.rank << " went on";
  });
  for (const auto& report : reports)
    EXPECT_THAT(report.what(), HasSubstr("rank 1 of 3 has no more inputs"));
}

TEST(Join, WindowsEvaluationsAndBuffersAreTakenPartIn) {
  struct NormedImpl : torch::nn::Module {
    torch::Tensor forward(const torch::Tensor& x) { return net(norm(x)); }
    torch::nn::BatchNorm1d norm = register_module("norm", torch::nn::BatchNorm1d(7));
    Mlp net = register_module("net", Mlp());
  };
  std::vector<Tensors> states(3);
  expect_all_fine(run_ranks(3, [&](RankContext& context) {
    auto model = std::make_shared<NormedImpl>();
    fill(*model, 3);
    DistributedDataParallel ddp(context.connect(), model);
    Join join(ddp);
    for (int64_t step = 0; step < 1 + 2 * context.rank; ++step) {
      ddp.zero_grad();
      {
        const auto guard = ddp.no_sync();
        loss_of(ddp(batch_of(context.rank, 10 * step))).backward();
        loss_of(ddp(batch_of(context.rank, 10 * step + 1))).backward();
      }
      loss_of(ddp(batch_of(context.rank, 10 * step + 2))).backward();
      torch::NoGradGuard no_grad;
      for (auto& parameter : model->parameters()) parameter -= 0.1 * parameter.grad();
      model->eval();
      ddp(batch_of(context.rank, 10 * step + 3));
      model->train();
    }
    join.finish();
    Tensors state = copies(model->parameters());
    for (const auto& buffer : model->buffers()) state.push_back(buffer.detach().clone());
    states[static_cast<size_t>(context.rank)] = state;
  }));
  for (const Tensors& state : states) expect_same_bits(state, states[2], "state");
}

TEST(Join, TakesSeveralModels) {
  std::vector<Tensors> states(2);
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Mlp one, two;
    fill(*one, 3);
    fill(*two, 4);
    const auto communicator = context.connect();
    DistributedDataParallel first(communicator, one);
    DistributedDataParallel second(communicator, two);
    Join join(first, second);
    for (int64_t step = 0; step < 1 + 2 * context.rank; ++step) {
      first.zero_grad();
      second.zero_grad();
      (loss_of(first(batch_of(context.rank, step))) + loss_of(second(batch_of(context.rank, step))))
          .backward();
      descend(one);
      descend(two);
    }
    join.finish();
    states[static_cast<size_t>(context.rank)] = copies(one->parameters());
    for (const auto& parameter : copies(two->parameters()))
      states[static_cast<size_t>(context.rank)].push_back(parameter);
  }));
  expect_same_bits(states[0], states[1], "state");
}

TEST(Join, ModelsMayRunInAnyPatternThatRanksShare) {
  std::vector<Tensors> states(2);
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Mlp one, two;
    fill(*one, 3);
    fill(*two, 4);
    const auto communicator = context.connect();
    DistributedDataParallel often(communicator, one, {.bucket_cap_mb = 0.0001});
    DistributedDataParallel seldom(communicator, two);
    Join join(often, seldom);
    for (int64_t step = 0; step < 2 + 3 * context.rank; ++step) {
      auto& ddp = often;
      ddp.zero_grad();
      loss_of(ddp(batch_of(context.rank, step))).backward();
      descend(one);
      if (step % 2 == 0) continue;
      seldom.zero_grad();
      loss_of(seldom(batch_of(context.rank, step))).backward();
      descend(two);
    }
    join.finish();
    auto& state = states[static_cast<size_t>(context.rank)];
    state = copies(one->parameters());
    for (const auto& parameter : copies(two->parameters())) state.push_back(parameter);
  }));
  expect_same_bits(states[0], states[1], "state");
}

TEST(Join, SeveralForwardPassesMayShareABackwardPass) {
  std::vector<Tensors> states(2);
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Mlp model;
    fill(*model, 3);
    DistributedDataParallel ddp(context.connect(), model);
    Join join(ddp);
    for (int64_t step = 0; step < 1 + 2 * context.rank; ++step) {
      ddp.zero_grad();
      const auto first = ddp(batch_of(context.rank, 2 * step));
      (loss_of(first) + loss_of(ddp(batch_of(context.rank, 2 * step + 1)))).backward();
      descend(model);
      ddp(batch_of(context.rank, 99));  // without a backward pass
    }
    join.finish();
    states[static_cast<size_t>(context.rank)] = copies(model->parameters());
  }));
  expect_same_bits(states[0], states[1], "state");
}

TEST(Join, TrainingGoesOnAfterwards) {
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Mlp model;
    fill(*model, 3);
    DistributedDataParallel ddp(context.connect(), model);
    {
      Join join(ddp);
      for (int64_t step = 0; step < 1 + context.rank; ++step)
        loss_of(ddp(batch_of(context.rank, step))).backward();
      join.finish();
    }
    EXPECT_EQ(ddp.step(), 2U) << "of the rank with most inputs";
    for (int64_t step = 0; step < 3; ++step) {
      ddp.zero_grad();
      loss_of(ddp(batch_of(context.rank, step))).backward();
      descend(model);
    }
  }));
}

}  // namespace
}  // namespace longhaul

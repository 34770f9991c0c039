// What gradients and parameters are after DDP had them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>

#include "tests/ddp/training.h"

namespace longhaul {
namespace {

using testing::batch_of;
using testing::codec;
using testing::copies;
using testing::expect_all_fine;
using testing::expect_same_bits;
using testing::fill;
using testing::gradients_of;
using testing::loss_of;
using testing::Mlp;
using testing::RankContext;
using testing::run_ranks;
using Tensors = std::vector<torch::Tensor>;

constexpr uint64_t kSeed = 42;

struct Case {
  int size;
  std::string codec;
};
void PrintTo(const Case& one, std::ostream* out) {
  *out << one.codec << " at " << one.size;
}
std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return info.param.codec + "_of_" + std::to_string(info.param.size);
}
std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const int size : {1, 2, 3, 4})
    for (const char* name : {"none", "zstd"}) cases.push_back({size, name});
  return cases;
}

// The gradients of every rank's own batch, each computed alone.
std::vector<Tensors> lone_gradients(int size, int64_t step) {
  std::vector<Tensors> gradients;
  for (Rank rank = 0; rank < size; ++rank) {
    Mlp model;
    fill(*model, kSeed);
    loss_of(model(batch_of(rank, step))).backward();
    gradients.push_back(gradients_of(*model));
  }
  return gradients;
}

// The sum in rank order, then the scale: to the bit what the compressed all-reduce promises.
Tensors rank_order_average(const std::vector<Tensors>& gradients) {
  Tensors average = copies(gradients[0]);
  for (size_t i = 0; i < average.size(); ++i) {
    for (size_t rank = 1; rank < gradients.size(); ++rank) average[i] += gradients[rank][i];
    average[i] *= static_cast<float>(1.0 / static_cast<double>(gradients.size()));
  }
  return average;
}

class DdpWorld : public ::testing::TestWithParam<Case> {
 protected:
  DistributedDataParallelOptions options() const { return {.codec = codec(GetParam().codec)}; }
  int size() const { return GetParam().size; }
};
INSTANTIATE_TEST_SUITE_P(All, DdpWorld, ::testing::ValuesIn(all_cases()), name_of);

TEST_P(DdpWorld, GradientsAreTheAverageOfAllRanks) {
  const Tensors expected = rank_order_average(lone_gradients(size(), 0));
  expect_all_fine(run_ranks(size(), [&](RankContext& context) {
    Mlp model;
    fill(*model, kSeed + static_cast<uint64_t>(context.rank));  // rank 0's will hold
    DistributedDataParallel ddp(context.connect(), model, options());
    loss_of(ddp(batch_of(context.rank, 0))).backward();
    const Tensors seen = gradients_of(*model);
    if (GetParam().codec == "zstd" || size() == 1) {
      expect_same_bits(seen, expected, "gradients");
    } else {
      for (size_t i = 0; i < seen.size(); ++i)
        EXPECT_TRUE(torch::allclose(seen[i], expected[i], 1e-5, 1e-7)) << i;
    }
  }));
}

// What every rank ends with.
std::vector<Tensors> train_twenty_steps(int size, const DistributedDataParallelOptions& options) {
  std::vector<Tensors> parameters(static_cast<size_t>(size));
  expect_all_fine(run_ranks(size, [&](RankContext& context) {
    Mlp model;
    fill(*model, kSeed + static_cast<uint64_t>(context.rank));
    DistributedDataParallel ddp(context.connect(), model, options);
    torch::optim::SGD sgd(model->first->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
    torch::optim::AdamW adam(model->second->parameters(), torch::optim::AdamWOptions(1e-2));
    for (int64_t step = 0; step < 20; ++step) {
      sgd.zero_grad();
      adam.zero_grad();
      loss_of(ddp(batch_of(context.rank, step))).backward();
      sgd.step();
      adam.step();
    }
    EXPECT_EQ(ddp.step(), 20u);
    EXPECT_NE(ddp.traffic().codec.empty(),
              context.size > 1 && options.codec.kind != CodecSpec{}.kind);
    parameters[static_cast<size_t>(context.rank)] = copies(model->parameters());
  }));
  return parameters;
}

TEST_P(DdpWorld, TwentyStepsKeepRanksIdenticalToTheBit) {
  const std::vector<Tensors> parameters = train_twenty_steps(size(), options());
  for (const Tensors& one : parameters) expect_same_bits(one, parameters[0], "parameters");
}

class DdpLossy : public ::testing::TestWithParam<std::tuple<int, std::string>> {};
INSTANTIATE_TEST_SUITE_P(All, DdpLossy,
                         ::testing::Combine(::testing::Values(2, 3, 4),
                                            ::testing::Values<std::string>("bf16", "int8", "rms",
                                                                           "auto")),
                         [](const auto& info) {
                           return std::string(std::get<1>(info.param)) + "_of_" +
                                  std::to_string(std::get<0>(info.param));
                         });

TEST_P(DdpLossy, TwentyStepsKeepRanksIdenticalToTheBit) {
  const auto [size, name] = GetParam();
  const std::vector<Tensors> parameters = train_twenty_steps(size, {.codec = codec(name)});
  for (const Tensors& one : parameters) expect_same_bits(one, parameters[0], "parameters");
}

// Nothing is known of the links yet, so nothing is rounded: the bits of codec none.
TEST(DdpAuto, StartsExact) {
  for (const int size : {2, 3}) {
    expect_all_fine(run_ranks(size, [&](RankContext& context) {
      const auto communicator = context.connect();
      const auto first_gradients = [&](const DistributedDataParallelOptions& options) {
        Mlp model;
        fill(*model, kSeed);
        DistributedDataParallel ddp(communicator, model, options);
        loss_of(ddp(batch_of(context.rank, 0))).backward();
        return gradients_of(*model);
      };
      expect_same_bits(first_gradients({.codec = codec("auto")}), first_gradients({}),
                       "gradients of the first step");
    }));
  }
}

// Many buckets, rebuilt after the first step in the order the gradients came.
TEST_P(DdpWorld, TinyBucketsGiveTheSameSums) {
  expect_all_fine(run_ranks(size(), [&](RankContext& context) {
    Mlp model;
    fill(*model, kSeed);
    DistributedDataParallelOptions tiny = options();
    tiny.bucket_cap_mb = 64.0 / (1024 * 1024);
    DistributedDataParallel ddp(context.connect(), model, tiny);
    for (int64_t step = 0; step < 3; ++step) {
      const Tensors expected = rank_order_average(lone_gradients(size(), step));
      ddp.zero_grad();
      loss_of(ddp(batch_of(context.rank, step))).backward();
      const Tensors seen = gradients_of(*model);
      for (size_t i = 0; i < seen.size(); ++i)
        EXPECT_TRUE(torch::allclose(seen[i], expected[i], 1e-5, 1e-7)) << step << " " << i;
    }
  }));
}

TEST_P(DdpWorld, NanAndInfinityReachEveryRank) {
  expect_all_fine(run_ranks(size(), [&](RankContext& context) {
    Mlp model;
    fill(*model, kSeed);
    DistributedDataParallel ddp(context.connect(), model, options());
    auto scale = torch::ones({3});
    if (context.rank == size() - 1) {
      scale[0] = std::numeric_limits<float>::quiet_NaN();
      scale[1] = std::numeric_limits<float>::infinity();
    }
    (ddp(batch_of(context.rank, 0)) * scale).sum().backward();
    const auto& bias = model->second->bias.grad();
    EXPECT_TRUE(std::isnan(bias[0].item<float>()));
    EXPECT_TRUE(std::isinf(bias[1].item<float>()));
    EXPECT_TRUE(std::isfinite(bias[2].item<float>()));
  }));
}

TEST_P(DdpWorld, AccumulatingWithoutSyncEqualsOneLargeBatch) {
  expect_all_fine(run_ranks(size(), [&](RankContext& context) {
    Mlp parts, whole;
    fill(*parts, kSeed);
    fill(*whole, kSeed);
    const auto communicator = context.connect();
    DistributedDataParallel ddp_parts(communicator, parts, options());
    DistributedDataParallel ddp_whole(communicator, whole, options());
    for (int64_t step = 0; step < 2; ++step) {
      const auto half_1 = batch_of(context.rank, 2 * step);
      const auto half_2 = batch_of(context.rank, 2 * step + 1);
      ddp_parts.zero_grad();
      ddp_whole.zero_grad();
      {
        const auto guard = ddp_parts.no_sync();
        (ddp_parts(half_1).square().mean() / 2).backward();
      }
      (ddp_parts(half_2).square().mean() / 2).backward();
      ddp_whole(torch::cat({half_1, half_2})).square().mean().backward();
      const Tensors a = gradients_of(*parts);
      const Tensors b = gradients_of(*whole);
      for (size_t i = 0; i < a.size(); ++i)
        EXPECT_TRUE(torch::allclose(a[i], b[i], 1e-4, 1e-6)) << i;
    }
    EXPECT_EQ(ddp_parts.step(), 2u);
  }));
}

TEST_P(DdpWorld, BytesAndWaitingAreCounted) {
  expect_all_fine(run_ranks(size(), [&](RankContext& context) {
    Mlp model(2000);
    fill(*model, kSeed);
    DistributedDataParallel ddp(context.connect(), model, options());
    const TrafficCounts before = ddp.traffic();
    loss_of(ddp(batch_of(context.rank, 0))).backward();
    const TrafficCounts after = ddp.traffic();
    if (size() == 1) {
      EXPECT_EQ(after.bytes_sent, 0u);
      EXPECT_EQ(after.wait_seconds, 0);
    } else {
      EXPECT_GT(after.bytes_raw - before.bytes_raw, 50'000u);
      EXPECT_GT(after.bytes_sent, before.bytes_sent);
      EXPECT_GT(after.wait_seconds, 0);
    }
  }));
}

TEST(Ddp, WorldOfOneIsThePlainLoopToTheBit) {
  const auto train = [](auto&& forward, const Mlp& model) {
    torch::optim::AdamW adam(model->parameters(), torch::optim::AdamWOptions(1e-2));
    for (int64_t step = 0; step < 20; ++step) {
      adam.zero_grad();
      loss_of(forward(batch_of(0, step))).backward();
      adam.step();
    }
    return copies(model->parameters());
  };
  Mlp plain, wrapped;
  fill(*plain, kSeed);
  fill(*wrapped, kSeed);
  const Tensors expected = train(plain, plain);
  expect_all_fine(run_ranks(1, [&](RankContext& context) {
    DistributedDataParallel ddp(context.connect(), wrapped);
    expect_same_bits(train(ddp, wrapped), expected, "parameters");
  }));
}

// Buckets hold the gradients themselves; libtorch's zero_grad() cannot detach them, ours can zero
// them.
TEST(Ddp, GradientsMayLiveInTheBuckets) {
  const Tensors expected = rank_order_average(lone_gradients(2, 1));
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Mlp model;
    fill(*model, kSeed);
    DistributedDataParallel ddp(context.connect(), model,
                                {.codec = codec("zstd"), .gradient_as_bucket_view = true});
    loss_of(ddp(batch_of(context.rank, 0))).backward();
    EXPECT_TRUE(model->first->weight.grad().is_view());
    torch::optim::SGD sgd(model->parameters(), 0.1);
    EXPECT_THROW(sgd.zero_grad(), c10::Error);
    ddp.zero_grad();
    loss_of(ddp(batch_of(context.rank, 1))).backward();
    expect_same_bits(gradients_of(*model), expected, "gradients");
  }));
}

TEST(Ddp, TheModelIsPlainAgainWhenTheWrapperIsGone) {
  const Tensors expected = lone_gradients(2, 0)[0];
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    Mlp model;
    fill(*model, kSeed);
    {
      DistributedDataParallel ddp(context.connect(), model);
      loss_of(ddp(batch_of(context.rank, 3))).backward();
    }
    model->zero_grad();
    loss_of(model(batch_of(0, 0))).backward();
    expect_same_bits(gradients_of(*model), expected, "gradients");
  }));
}

}  // namespace
}  // namespace longhaul

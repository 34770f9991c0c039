// Hooks of the user's own, and gradients summed in another type.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <numeric>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

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

CommHookResult::Future average(const c10::intrusive_ptr<c10d::ProcessGroup>& group,
                               const torch::Tensor& buffer, bool view = false) {
  // Rounds as the Reducer does: it divides gradients that lie in the bucket, and multiplies those
  // that it copies there.
  const int size = group->getSize();
  Tensors tensors = {view ? buffer.div_(size) : buffer.mul_(1.0 / size)};
  return group->allreduce(tensors)->getFuture();
}

// What three steps of training with a hook leave as gradients.
Tensors train(const std::shared_ptr<Communicator>& communicator,
              const DistributedDataParallelOptions& options, const CommHook& hook) {
  Mlp model;
  fill(*model, 1);
  DistributedDataParallel ddp(communicator, model, options);
  if (hook) ddp.register_comm_hook(hook);
  for (int64_t step = 0; step < 3; ++step) {
    ddp.zero_grad();
    loss_of(ddp(batch_of(communicator->rank(), step))).backward();
  }
  return gradients_of(*model);
}

TEST(CommHook, TheAverageIsWhatDdpDoesByItself) {
  for (const int size : {1, 2, 3}) {
    for (const bool view : {false, true}) {
      expect_all_fine(run_ranks(size, [&](RankContext& context) {
        const auto communicator = context.connect();
        const DistributedDataParallelOptions options = {.bucket_cap_mb = 0.0001,
                                                        .gradient_as_bucket_view = view};
        const Tensors with = train(communicator, options, [&](const GradientBucket& bucket) {
          return average(communicator->process_group(), bucket.buffer, view);
        });
        expect_same_bits(with, train(communicator, options, nullptr), "gradients");
      }));
    }
  }
}

TEST(CommHook, MayAnswerAtOnceAndSeesEveryGradientOnce) {
  for (const int size : {1, 2}) {
    expect_all_fine(run_ranks(size, [&](RankContext& context) {
      Mlp model;
      fill(*model, 1);
      DistributedDataParallel ddp(context.connect(), model, {.bucket_cap_mb = 0.0001});
      std::vector<int> seen;
      ddp.register_comm_hook([&](const GradientBucket& bucket) -> CommHookResult {
        EXPECT_EQ(bucket.step, ddp.step());
        EXPECT_EQ(bucket.parameters.size(), bucket.gradients.size());
        for (size_t i = 0; i < bucket.gradients.size(); ++i) {
          EXPECT_EQ(bucket.gradients[i].sizes(), bucket.parameters[i].sizes());
          EXPECT_TRUE(bucket.gradients[i].is_alias_of(bucket.buffer));
        }
        seen.push_back(static_cast<int>(bucket.parameters.size()) + (bucket.last ? 100 : 0));
        return torch::full_like(bucket.buffer, 7);
      });
      loss_of(ddp(batch_of(context.rank, 0))).backward();
      for (const auto& gradient : gradients_of(*model))
        EXPECT_TRUE((gradient == 7).all().item<bool>());
      EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), 0), 104) << "4 parameters, one last";
      seen.clear();
      loss_of(ddp(batch_of(context.rank, 1))).backward();
      EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), 0), 104);
      EXPECT_GT(seen.size(), 1U) << "buckets are rebuilt as small as asked";
    }));
  }
}

// What a hook gives or throws comes out of backward() as it is, naming the bucket.
void expect_refused(const CommHook& hook, const std::string& text) {
  const auto reports =
      run_ranks(2, [&](RankContext& context) { train(context.connect(), {}, hook); });
  for (const auto& report : reports) EXPECT_THAT(report.what(), HasSubstr(text));
}

TEST(CommHook, WhatCannotBeAGradientIsRefused) {
  const auto later = [](const torch::Tensor& tensor) {
    auto future =
        c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()));
    future->markCompleted(c10::IValue(std::vector<torch::Tensor>{tensor}));
    return future;
  };
  expect_refused([](const auto&) { return torch::zeros({3}); }, "gave 3 Float values");
  expect_refused([](const auto& bucket) { return bucket.buffer.to(torch::kHalf); }, "Half values");
  expect_refused([](const auto&) { return torch::Tensor(); }, "an undefined tensor");
  expect_refused([](const auto&) { return CommHookResult::Future(); }, "no future");
  expect_refused([&](const auto&) { return later(torch::zeros({3})); }, "gave 3 Float values");
  expect_refused([](const auto&) -> CommHookResult { throw std::runtime_error("my own"); },
                 "my own");
}

TEST(CommHook, ComesBeforeTheFirstStepOnceAndWithoutACodec) {
  const CommHook hook = [](const GradientBucket& bucket) { return bucket.buffer; };
  for (const int size : {1, 2}) {
    expect_all_fine(run_ranks(size, [&](RankContext& context) {
      const auto communicator = context.connect();
      const auto refused = [&](auto& ddp, const char* text) {
        try {
          ddp.register_comm_hook(hook);
          ADD_FAILURE() << "not refused: " << text;
        } catch (const Error& error) {
          EXPECT_EQ(error.kind(), ErrorKind::kInvalid);
          EXPECT_THAT(error.what(), HasSubstr(text));
        }
      };
      Mlp model;
      {
        DistributedDataParallel ddp(communicator, model);
        ddp.register_comm_hook(hook);
        refused(ddp, "one hook");
      }
      {
        DistributedDataParallel ddp(communicator, model, {.codec = codec("zstd")});
        refused(ddp, "codec zstd");
      }
      DistributedDataParallel ddp(communicator, model);
      loss_of(ddp(batch_of(context.rank, 0))).backward();
      refused(ddp, "before the first");
    }));
  }
}

TEST(ReduceDtype, SumsInThatTypeAndKeepsTheGradients) {
  for (const int size : {1, 2, 3}) {
    for (const at::ScalarType type : {torch::kHalf, torch::kBFloat16, torch::kFloat64}) {
      expect_all_fine(run_ranks(size, [&](RankContext& context) {
        const auto communicator = context.connect();
        const Tensors seen = train(communicator, {.reduce_dtype = type}, nullptr);
        const Tensors exact = train(communicator, {}, nullptr);
        bool rounded = false;
        for (size_t i = 0; i < seen.size(); ++i) {
          EXPECT_EQ(seen[i].dtype(), torch::kFloat);
          EXPECT_TRUE(torch::allclose(seen[i], exact[i], 2e-2, 2e-2)) << at::toString(type);
          rounded |= !testing::same_bits(seen[i], exact[i]);
          EXPECT_TRUE(size == 1 || testing::same_bits(seen[i], seen[i].to(type).to(torch::kFloat)))
              << "values that " << at::toString(type) << " holds";
        }
        EXPECT_TRUE(rounded || type == torch::kFloat64 || size == 1);
      }));
    }
  }
}

TEST(ReduceDtype, DoesNotGoWithACodecAHookOrWholeNumbers) {
  const auto what = [](const DistributedDataParallelOptions& options, const CommHook& hook) {
    return run_ranks(2, [&](RankContext& context) { train(context.connect(), options, hook); })[1]
        .what();
  };
  const CommHook hook = [](const GradientBucket& bucket) { return bucket.buffer; };
  EXPECT_THAT(what({.codec = codec("zstd"), .reduce_dtype = torch::kHalf}, nullptr),
              HasSubstr("reduce_dtype"));
  EXPECT_THAT(what({.reduce_dtype = torch::kInt}, nullptr), HasSubstr("reduce_dtype"));
  EXPECT_THAT(what({.reduce_dtype = torch::kHalf}, hook), HasSubstr("reduce_dtype"));
}

}  // namespace
}  // namespace longhaul

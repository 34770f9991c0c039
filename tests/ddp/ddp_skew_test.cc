// Ranks that are not at the same place of their programs hear so, on all ranks, whatever the codec:
// never a mixed gradient, never a wait for the time-out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/ddp/training.h"

namespace longhaul {
namespace {

using ::testing::AnyOf;
using testing::batch_of;
using testing::codec;
using testing::fill;
using ::testing::HasSubstr;
using testing::loss_of;
using testing::Mlp;
using testing::RankContext;
using testing::run_ranks;

struct SkewedNormImpl : torch::nn::Module {
  SkewedNormImpl() {
    body = register_module("body", Mlp());
    norm = register_module("norm", torch::nn::BatchNorm1d(3));
  }
  torch::Tensor forward(const torch::Tensor& x) { return norm(body(x)); }
  Mlp body{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};
TORCH_MODULE(SkewedNorm);

// One rank does `odd` before its third step; the others train on.
template <typename Model>
void expect_skew(const std::string& codec_name, int size, Rank who,
                 const std::function<void(DistributedDataParallel<Model>&)>& odd,
                 const ::testing::Matcher<std::string>& says) {
  const auto reports = run_ranks(size, [&](RankContext& context) {
    Model model;
    fill(*model, 1);
    DistributedDataParallel<Model> ddp(context.connect(), model, {.codec = codec(codec_name)});
    for (int64_t step = 0; step < 6; ++step) {
      if (step == 2 && context.rank == who) odd(ddp);
      loss_of(ddp(batch_of(context.rank, step))).backward();
    }
  });
  for (const auto& report : reports) {
    const CollectiveError* error = report.collective_error();
    ASSERT_NE(error, nullptr) << codec_name << " at " << size;
    EXPECT_THAT(std::string(error->what()), says);
    EXPECT_THAT(error->what(), ::testing::Not(HasSubstr("corrupt")));
  }
}

TEST(DdpSkew, ASkippedBackwardIsToldBySteps) {
  for (const char* name : {"none", "zstd", "int8", "auto"}) {
    for (const int size : {2, 3}) {
      expect_skew<Mlp>(
          name, size, 1, [](auto& ddp) { loss_of(ddp(batch_of(1, 9))); },
          size == 2 ? HasSubstr("ranks are at different steps: rank 0 at 3, rank 1 at 4")
                    : HasSubstr("ranks are at different steps: ranks 0 and 2 at 3, rank 1 at 4"));
    }
  }
}

// With buffers the next collective of one rank is a broadcast, of the others an all-reduce.
TEST(DdpSkew, ASkippedBackwardOfAModelWithBuffersIsToldToo) {
  for (const char* name : {"none", "zstd"}) {
    for (const Rank who : {0, 1}) {
      expect_skew<SkewedNorm>(
          name, 2, who, [](auto& ddp) { loss_of(ddp(batch_of(1, 9))); },
          HasSubstr("ranks are at different steps: rank"));
    }
  }
}

// It takes the place of the next forward pass's broadcast, as in Python.
TEST(DdpSkew, AnEvaluationOfOneRankDisturbsNobody) {
  for (const Rank who : {0, 1}) {
    testing::expect_all_fine(run_ranks(2, [&](RankContext& context) {
      SkewedNorm model;
      fill(*model, 1);
      DistributedDataParallel ddp(context.connect(), model);
      for (int64_t step = 0; step < 4; ++step) {
        loss_of(ddp(batch_of(context.rank, step))).backward();
        torch::NoGradGuard no_grad;
        if (context.rank == who && step < 3) ddp(batch_of(0, 9));
      }
    }));
  }
}

struct LongWayImpl : torch::nn::Module {
  torch::Tensor forward(const torch::Tensor& x, bool go_right) {
    const torch::Tensor from_left = left(x);
    return go_right ? from_left + right(x) : from_left;
  }
  Mlp left = register_module("left", Mlp());
  Mlp right = register_module("right", Mlp());
};
TORCH_MODULE(LongWay);

// Trains with a bucket per parameter unless `options` says otherwise. `goes_right(rank, step)`.
std::vector<testing::RankReport> train_fork(DistributedDataParallelOptions options, int size,
                                            const std::function<bool(Rank, int64_t)>& goes_right) {
  options.bucket_cap_mb = options.bucket_cap_mb.value_or(0.0001);
  options.skip_all_reduce_unused_params = true;
  return run_ranks(size, [&](RankContext& context) {
    LongWay model;
    fill(*model, 1);
    DistributedDataParallel ddp(context.connect(), model, options);
    for (int64_t step = 0; step < 6; ++step) {
      ddp.zero_grad();
      loss_of(ddp(batch_of(context.rank, step), goes_right(context.rank, step))).backward();
    }
  });
}

// A bucket that one rank sends and another skips pairs with a bucket of another length, at which
// Gloo ends the process.
TEST(DdpSkew, BucketsThatOneRankSkipsAreTold) {
  for (const char* name : {"none", "zstd"}) {
    const auto reports = train_fork({.codec = codec(name), .find_unused_parameters = true}, 3,
                                    [](Rank rank, int64_t step) { return rank == 1 || step < 2; });
    for (const auto& report : reports) {
      ASSERT_NE(report.collective_error(), nullptr) << name << report.what();
      EXPECT_THAT(report.what(), HasSubstr("ranks leave out different buckets: "));
      EXPECT_THAT(report.what(), HasSubstr("rank 1 in the backward pass of step 3 (which leaves "
                                           "nothing out)"));
      EXPECT_THAT(report.what(), HasSubstr("'right."));
      EXPECT_THAT(report.what(), HasSubstr("skip_all_reduce_unused_params"));
    }
  }
}

// A static graph skips from the second step on.
TEST(DdpSkew, BucketsThatOneRankSkipsInAStaticGraphAreTold) {
  const auto reports = train_fork({.find_unused_parameters = true, .static_graph = true}, 2,
                                  [](Rank rank, int64_t) { return rank == 0; });
  for (const auto& report : reports)
    EXPECT_THAT(report.what(), HasSubstr("ranks leave out different buckets: "));
}

// Trains a LongWay whose right side gets gradients in no_sync() and none in the pass that reduces.
struct Window {
  bool views = false;
  bool skip = true;
  enum { kNothing, kZeros, kReduction } between = kNothing;
};
std::vector<testing::RankReport> train_window(const Window& window) {
  return run_ranks(2, [&](RankContext& context) {
    LongWay model;
    fill(*model, 1);
    DistributedDataParallel ddp(context.connect(), model,
                                {.bucket_cap_mb = 0.0001,
                                 .find_unused_parameters = true,
                                 .skip_all_reduce_unused_params = window.skip,
                                 .gradient_as_bucket_view = window.views});
    const auto pass = [&](int64_t step, bool go_right) {
      loss_of(ddp(batch_of(context.rank, step), go_right)).backward();
    };
    pass(0, true);
    {
      const auto guard = ddp.no_sync();
      pass(1, true);
    }
    if (window.between == Window::kZeros) ddp.zero_grad();
    if (window.between == Window::kReduction) pass(2, true);
    pass(3, false);
  });
}

// All ranks skip the bucket, and each has accumulated gradients of its own in it.
TEST(DdpSkew, AccumulatedGradientsAreNotSkipped) {
  for (const bool views : {false, true}) {
    for (const auto& report : train_window({.views = views})) {
      EXPECT_THAT(report.what(), HasSubstr("'right.second.weight'"));
      EXPECT_THAT(report.what(), HasSubstr("got a gradient in no_sync() and none in the pass that "
                                           "reduces, which skip_all_reduce_unused_params"));
    }
    testing::expect_all_fine(train_window({.views = views, .between = Window::kReduction}));
    testing::expect_all_fine(train_window({.views = views, .skip = false}));
  }
}

// Removed gradients are an error of the Reducer's without a name; zeros are fine.
TEST(DdpSkew, GradientsClearedWithinAWindowAreNamed) {
  for (const bool skip : {false, true}) {
    for (const auto& report : train_window({.skip = skip, .between = Window::kZeros})) {
      EXPECT_THAT(report.what(), HasSubstr("'right.first.weight'"));
      EXPECT_THAT(report.what(), HasSubstr("cleared before a pass reduced it"));
    }
    testing::expect_all_fine(
        train_window({.views = true, .skip = skip, .between = Window::kZeros}));
  }
}

// What a rank leaves out does not matter when no bucket consists of it alone.
TEST(DdpSkew, UnusedParametersMayDifferWhereNoBucketIsSkipped) {
  testing::expect_all_fine(train_fork({.bucket_cap_mb = 25, .find_unused_parameters = true}, 2,
                                      [](Rank rank, int64_t step) { return rank == step % 2; }));
  testing::expect_all_fine(train_fork({.find_unused_parameters = true}, 2,
                                      [](Rank, int64_t step) { return step % 2 == 0; }));
}

TEST(DdpSkew, BuffersOfOneRankAreTold) {
  expect_skew<SkewedNorm>(
      "none", 2, 1, [](auto& ddp) { ddp.model()->register_buffer("extra", torch::ones({2})); },
      HasSubstr("the models' buffers are not the same on all ranks any more"));
}

// Two models in one world, in another order on one rank.
TEST(DdpSkew, ModelsInAnotherOrderAreTold) {
  const auto reports = run_ranks(2, [](RankContext& context) {
    Mlp a, b;
    const auto communicator = context.connect();
    DistributedDataParallel first(communicator, a), second(communicator, b);
    if (context.rank == 1) std::swap(first, second);
    loss_of(first(batch_of(context.rank, 0))).backward();
  });
  for (const auto& report : reports)
    EXPECT_THAT(report.what(), HasSubstr("ranks use different models at the same time: rank 0 in "
                                         "DistributedDataParallel number 1"));
}

}  // namespace
}  // namespace longhaul

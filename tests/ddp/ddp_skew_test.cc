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

struct NormedImpl : torch::nn::Module {
  NormedImpl() {
    body = register_module("body", Mlp());
    norm = register_module("norm", torch::nn::BatchNorm1d(3));
  }
  torch::Tensor forward(const torch::Tensor& x) { return norm(body(x)); }
  Mlp body{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};
TORCH_MODULE(Normed);

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
      expect_skew<Normed>(
          name, 2, who, [](auto& ddp) { loss_of(ddp(batch_of(1, 9))); },
          HasSubstr("ranks are at different steps: rank"));
    }
  }
}

// It takes the place of the next forward pass's broadcast, as in Python.
TEST(DdpSkew, AnEvaluationOfOneRankDisturbsNobody) {
  for (const Rank who : {0, 1}) {
    testing::expect_all_fine(run_ranks(2, [&](RankContext& context) {
      Normed model;
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

TEST(DdpSkew, BuffersOfOneRankAreTold) {
  expect_skew<Normed>(
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

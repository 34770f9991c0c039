// What goes wrong, and who is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/ddp/training.h"

namespace longhaul {
namespace {

using testing::batch_of;
using testing::codec;
using testing::fill;
using ::testing::HasSubstr;
using testing::loss_of;
using testing::Mlp;
using testing::RankContext;
using testing::run_ranks;

// Every rank's constructor must throw the same ModelMismatchError, blaming `culprit`.
void expect_mismatch(
    int size, Rank culprit, const std::string& text,
    const std::function<void(RankContext&, Mlp&, DistributedDataParallelOptions&)>& spoil) {
  const auto reports = run_ranks(
      size,
      [&](RankContext& context) {
        Mlp model;
        DistributedDataParallelOptions options;
        if (context.rank == culprit) spoil(context, model, options);
        const auto communicator = context.connect();
        try {
          DistributedDataParallel ddp(communicator, model, options);
        } catch (const ModelMismatchError& error) {
          EXPECT_EQ(error.rank(), culprit);
          EXPECT_EQ(error.kind(), ErrorKind::kInvalid);
          EXPECT_THAT(error.what(), HasSubstr(text));
          return;
        }
        ADD_FAILURE() << "rank " << context.rank << " saw nothing";
      },
      std::chrono::seconds(60));
  testing::expect_all_fine(reports);
}

TEST(DdpError, EveryRankHearsWhichParameterDiffers) {
  for (const int size : {2, 4}) {
    expect_mismatch(size, size - 1,
                    "'first.weight' is float [19, 7] where rank 0's is float [17, 7]",
                    [](RankContext&, Mlp& model, auto&) { model = Mlp(19); });
    expect_mismatch(size, 1, "'second.bias' is double [3]", [](RankContext&, Mlp& model, auto&) {
      model->second->bias.set_data(model->second->bias.to(torch::kDouble));
    });
    expect_mismatch(size, 1, "has parameter 'extra'", [](RankContext&, Mlp& model, auto&) {
      model->register_parameter("extra", torch::ones({2}));
    });
    expect_mismatch(size, 1, "option 'codec' is zstd where rank 0's is none",
                    [](RankContext&, Mlp&, auto& options) { options.codec = codec("zstd"); });
    expect_mismatch(size, 1, "rank 1's option 'bucket_cap_mb' is 4 where rank 0's is unset",
                    [](RankContext&, Mlp&, auto& options) { options.bucket_cap_mb = 4; });
    expect_mismatch(size, 1, "option 'bucket_cap_mb_list' is [1, 2] where rank 0's is []",
                    [](RankContext&, Mlp&, auto& options) { options.bucket_cap_mb_list = {1, 2}; });
    expect_mismatch(size, 1, "cannot start: the model has no parameter that requires a gradient",
                    [](RankContext&, Mlp& model, auto&) {
                      for (auto& parameter : model->parameters())
                        parameter.set_requires_grad(false);
                    });
  }
}

TEST(DdpError, MemoryLayoutsThatDifferAreNamed) {
  expect_mismatch(2, 1, "'first.weight' is float [17, 7] with strides [1, 17] where rank 0's is",
                  [](RankContext&, Mlp& model, auto&) {
                    const auto weight = model->first->weight.detach();
                    model->first->weight.set_data(weight.t().contiguous().t());
                  });
}

TEST(DdpError, ModelsDifferOnlyWhereTheyDo) {
  expect_mismatch(2, 1, "models differ between ranks: rank 1", [](RankContext&, Mlp& model, auto&) {
    model->register_parameter("extra", torch::ones({2}));
  });
  expect_mismatch(2, 1, "options differ between ranks: rank 1's option 'codec'",
                  [](RankContext&, Mlp&, auto& options) { options.codec = codec("zstd"); });
  expect_mismatch(2, 1, "rank 1 cannot start: bucket caps must be above 0",
                  [](RankContext&, Mlp&, auto& options) { options.bucket_cap_mb = -1; });
}

TEST(DdpError, ACodecThatCannotCarryAParameterSaysSoAtConstruction) {
  struct Case {
    const char* codec;
    at::ScalarType type;
    const char* says;
  };
  const std::vector<Case> cases{
      {"bf16", torch::kHalf, "codec bf16 cannot carry Half parameter 'first.weight'"},
      {"fp16", torch::kBFloat16, "codec fp16 cannot carry BFloat16 parameter 'first.weight'"},
      {"zstd", torch::kComplexFloat, "codec zstd cannot carry ComplexFloat parameter"}};
  for (const int size : {1, 2}) {
    for (const Case& one : cases) {
      const auto reports = run_ranks(size, [&](RankContext& context) {
        Mlp model;
        model->to(one.type);
        DistributedDataParallel ddp(context.connect(), model, {.codec = codec(one.codec)});
      });
      // The same words on every rank, and nobody's name.
      for (const auto& report : reports) {
        EXPECT_THAT(report.what(), ::testing::StartsWith(one.says));
        EXPECT_EQ(report.what(), reports[0].what());
      }
    }
  }
}

TEST(DdpError, AloneAModelWithNothingToTrainIsRefusedToo) {
  const auto reports = run_ranks(1, [](RankContext& context) {
    Mlp model;
    for (auto& parameter : model->parameters()) parameter.set_requires_grad(false);
    DistributedDataParallel ddp(context.connect(), model);
  });
  EXPECT_THAT(reports[0].what(), HasSubstr("no parameter that requires a gradient"));
}

// A peer that leaves shows in backward as a CollectiveError, type and text intact, on its
// survivors.
TEST(DdpError, APeerThatLeavesEndsBackwardWithACollectiveError) {
  for (const char* name : {"none", "zstd"}) {
    const auto reports = run_ranks(3, [&](RankContext& context) {
      Mlp model;
      fill(*model, 1);
      DistributedDataParallel ddp(context.connect(), model, {.codec = codec(name)});
      for (int64_t step = 0; step < 3; ++step) {
        if (context.rank == 1 && step == 2) return;
        ddp.zero_grad();
        const auto loss = loss_of(ddp(batch_of(context.rank, step)));
        loss.backward();
      }
    });
    EXPECT_EQ(reports[1].what(), "");
    for (const Rank rank : {0, 2}) {
      const CollectiveError* error = reports[static_cast<size_t>(rank)].collective_error();
      ASSERT_NE(error, nullptr);
      EXPECT_THAT(error->what(), HasSubstr("rank 1"));
      EXPECT_THAT(error->what(), HasSubstr("step 3")) << "the third backward pass";
    }
  }
}

}  // namespace
}  // namespace longhaul

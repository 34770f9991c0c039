// Parameters that DDP ignores, and those it reduces at the end of backward.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/ddp/training.h"

namespace longhaul {
namespace {

using testing::batch_of;
using testing::codec;
using testing::expect_all_fine;
using testing::fill;
using testing::gradients_of;
using ::testing::HasSubstr;
using testing::loss_of;
using testing::Mlp;
using testing::RankContext;
using testing::run_ranks;
using testing::same_bits;

TEST(IgnoredParameters, AreNeitherSetNorReducedNorCompared) {
  for (const char* name : {"none", "zstd"}) {
    expect_all_fine(run_ranks(2, [&](RankContext& context) {
      Mlp model;
      fill(*model, 3);
      const auto own_bias = torch::full({3}, context.rank + 1.0);
      model->second->bias.set_data(own_bias.clone());
      // Another shape on each rank: each keeps a table of its own.
      model->register_parameter("table", torch::ones({3, 1 + context.rank}));
      const auto buffer = model->register_buffer("own", torch::full({1}, context.rank));
      DistributedDataParallel ddp(
          context.connect(), model,
          {.codec = codec(name), .params_and_buffers_to_ignore = {"second.bias", "table", "own"}});
      EXPECT_TRUE(same_bits(model->second->bias, own_bias));
      auto loss = loss_of(ddp(batch_of(context.rank, 0)));
      loss.backward();
      EXPECT_EQ(buffer.item<double>(), context.rank);
      Mlp lone;
      fill(*lone, 3);
      lone->second->bias.set_data(own_bias.clone());
      loss_of(lone(batch_of(context.rank, 0))).backward();
      EXPECT_TRUE(same_bits(model->second->bias.grad(), lone->second->bias.grad()))
          << "codec " << name << ", rank " << context.rank << ": apart by "
          << model->second->bias.grad() - lone->second->bias.grad();
      EXPECT_FALSE(same_bits(model->first->bias.grad(), lone->first->bias.grad()));
      ddp(batch_of(context.rank, 1));  // nothing is missed
    }));
  }
}

TEST(IgnoredParameters, UnknownNamesAndNothingLeftAreRefused) {
  for (const int size : {1, 2}) {
    const auto what = [&](const std::vector<std::string>& names) {
      return run_ranks(size,
                       [&](RankContext& context) {
                         Mlp model;
                         DistributedDataParallel ddp(context.connect(), model,
                                                     {.params_and_buffers_to_ignore = names});
                       })[0]
          .what();
    };
    EXPECT_THAT(what({"second.bais"}), HasSubstr("'second.bais'"));
    EXPECT_THAT(what({"first.weight", "first.bias", "second.weight", "second.bias"}),
                HasSubstr("no parameter that requires a gradient"));
    EXPECT_EQ(what({"first.weight"}), "");
  }
}

TEST(DelayedParameters, AreAveragedAtTheEndOfBackward) {
  for (const int size : {1, 2, 3}) {
    expect_all_fine(run_ranks(size, [&](RankContext& context) {
      const auto communicator = context.connect();
      Mlp delayed, plain;
      fill(*delayed, 3 + static_cast<uint64_t>(context.rank));  // rank 0's will hold
      fill(*plain, 3);
      DistributedDataParallel ddp(communicator, delayed,
                                  {.delay_all_reduce = {"first.weight", "second.bias"}});
      DistributedDataParallel other(communicator, plain);
      for (int64_t step = 0; step < 3; ++step) {
        ddp.zero_grad();
        other.zero_grad();
        {
          const auto guard = ddp.no_sync();
          const auto guard_too = other.no_sync();
          loss_of(ddp(batch_of(context.rank, step + 10))).backward();
          loss_of(other(batch_of(context.rank, step + 10))).backward();
        }
        loss_of(ddp(batch_of(context.rank, step))).backward();
        loss_of(other(batch_of(context.rank, step))).backward();
        const auto seen = gradients_of(*delayed);
        const auto wanted = gradients_of(*plain);
        for (size_t i = 0; i < seen.size(); ++i)
          EXPECT_TRUE(torch::allclose(seen[i], wanted[i], 1e-5, 1e-6))
              << "step " << step << ", " << i;
        torch::NoGradGuard no_grad;
        for (auto& parameter : delayed->parameters()) parameter -= 0.1 * parameter.grad();
        for (auto& parameter : plain->parameters()) parameter -= 0.1 * parameter.grad();
      }
    }));
  }
}

TEST(DelayedParameters, UnknownNamesAndAllOfThemAreRefused) {
  const auto what = [&](const std::vector<std::string>& names) {
    return run_ranks(2,
                     [&](RankContext& context) {
                       Mlp model;
                       DistributedDataParallel ddp(context.connect(), model,
                                                   {.delay_all_reduce = names});
                     })[1]
        .what();
  };
  EXPECT_THAT(what({"first"}), HasSubstr("'first'"));
  EXPECT_THAT(what({"first.weight", "first.bias", "second.weight", "second.bias"}),
              HasSubstr("delay_all_reduce"));
}

}  // namespace
}  // namespace longhaul

#include "ddp/error_feedback.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ddp/training.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using namespace ::longhaul::testing;  // NOLINT(google-build-using-namespace)

constexpr uint64_t kFeedbackSeed = 5;

DistributedDataParallelOptions coarse(bool error_feedback) {
  DistributedDataParallelOptions options;
  options.codec = codec("rms:step=2");
  options.error_feedback = error_feedback;
  options.bucket_cap_mb = 64.0 / (1024 * 1024);  // several buckets
  return options;
}

// Steps [first, last) of plain SGD.
template <typename Ddp>
void train(Ddp& ddp, Rank rank, int64_t first, int64_t last) {
  torch::optim::SGD sgd(ddp.model()->parameters(), torch::optim::SGDOptions(0.02));
  for (int64_t step = first; step < last; ++step) {
    sgd.zero_grad();
    loss_of(ddp(batch_of(rank, step))).backward();
    sgd.step();
  }
}

std::vector<torch::Tensor> trained(const std::shared_ptr<Communicator>& communicator,
                                   const DistributedDataParallelOptions& options) {
  Mlp model;
  fill(*model, kFeedbackSeed);
  DistributedDataParallel ddp(communicator, model, options);
  train(ddp, communicator->rank(), 0, 60);
  return copies(model->parameters());
}

double distance(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    squares += (a[i] - b[i]).square().sum().item<double>();
  }
  return std::sqrt(squares);
}

TEST(ErrorFeedbackTest, SgdStaysNearTheExactPath) {
  expect_all_fine(run_ranks(3, [](RankContext& context) {
    const auto communicator = context.connect();
    const auto exact = trained(communicator, {});
    const double without = distance(trained(communicator, coarse(false)), exact);
    const double with = distance(trained(communicator, coarse(true)), exact);
    EXPECT_LT(2 * with, without);
  }));
}

TEST(ErrorFeedbackTest, ASavedStateGoesOnToTheBit) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    const auto communicator = context.connect();
    Mlp model;
    fill(*model, kFeedbackSeed);
    DistributedDataParallel ddp(communicator, model, coarse(true));
    train(ddp, context.rank, 0, 3);
    const NamedTensors state = ddp.error_feedback();
    ASSERT_THAT(state, SizeIs(model->parameters().size()));
    EXPECT_EQ(state[0].first, "first.weight");
    EXPECT_EQ(state[0].second.sizes(), model->first->weight.sizes());
    EXPECT_GT(state[0].second.abs().sum().item<double>(), 0);

    // Goes on in other buckets than those of the state.
    const auto go_on = [&](const NamedTensors& from) {
      Mlp copy;
      const torch::NoGradGuard no_grad;
      for (size_t i = 0; i < copy->parameters().size(); ++i) {
        copy->parameters()[i].copy_(model->parameters()[i]);
      }
      const torch::AutoGradMode grad(true);
      DistributedDataParallelOptions whole = coarse(true);
      whole.bucket_cap_mb = 25;
      DistributedDataParallel again(communicator, copy, whole);
      again.load_error_feedback(from);
      train(again, context.rank, 3, 6);
      return copies(copy->parameters());
    };
    const auto once = go_on(state);
    expect_same_bits(go_on(state), once, "parameters");
    NamedTensors zeros;
    for (const auto& [name, residual] : state) {
      zeros.emplace_back(name, torch::zeros_like(residual));
    }
    EXPECT_GT(distance(go_on(zeros), once), 0);
  }));
}

TEST(ErrorFeedbackTest, ResidualsFollowTheirParametersIntoOtherBuckets) {
  const std::vector<torch::Tensor> parameters = {torch::ones({2, 3}), torch::ones({4}),
                                                 torch::ones({5})};
  ErrorFeedback feedback(parameters, {"a", "b", "c"});
  feedback.residual({parameters[0], parameters[1]}).fill_(7);
  feedback.residual({parameters[2]}).fill_(9);
  EXPECT_EQ(feedback.residual({parameters[0], parameters[1]}).sum().item<float>(), 70);
  const torch::Tensor together = feedback.residual({parameters[2], parameters[0]});
  EXPECT_EQ(together.numel(), 11);
  EXPECT_EQ(together[4].item<float>(), 9);
  EXPECT_EQ(together[5].item<float>(), 7);
  together.fill_(1);
  EXPECT_EQ(feedback.state()[0].second.sum().item<float>(), 6);
  EXPECT_EQ(feedback.state()[1].second.sum().item<float>(), 28);
  EXPECT_EQ(feedback.state()[2].second.sum().item<float>(), 5);
}

TEST(ErrorFeedbackTest, AStateOfAnotherModelIsRefused) {
  ErrorFeedback feedback({torch::ones({2})}, {"a"});
  const auto what_of = [&](const NamedTensors& state) -> std::string {
    try {
      feedback.load(state);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(what_of({}), HasSubstr("0 parameters for a model of 1"));
  EXPECT_THAT(what_of({{"b", torch::ones({2})}}), HasSubstr("parameter 'a'"));
  EXPECT_THAT(what_of({{"a", torch::ones({3})}}), HasSubstr("2 elements for parameter 'a'"));
  EXPECT_EQ(what_of({{"a", torch::ones({2})}}), "");
}

TEST(ErrorFeedbackTest, RefusedWhereItCannotHelp) {
  const auto what_of = [](const DistributedDataParallelOptions& options, bool half) {
    const auto reports = run_ranks(2, [&](RankContext& context) {
      Mlp own;
      if (half) own->to(torch::kBFloat16);
      DistributedDataParallel ddp(context.connect(), own, options);
    });
    return reports[0].what();
  };
  DistributedDataParallelOptions options = coarse(true);
  EXPECT_THAT(what_of(options, true), HasSubstr("error_feedback takes float parameters"));
  options.codec = codec("rms:step=4");
  EXPECT_THAT(what_of(options, false), HasSubstr("takes steps up to 2"));
  options.codec = codec("zstd");
  EXPECT_THAT(what_of(options, false), HasSubstr("loses nothing that error_feedback could add"));
}

}  // namespace
}  // namespace longhaul

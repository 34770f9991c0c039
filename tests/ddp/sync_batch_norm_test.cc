// SyncBatchNorm against torch::nn::BatchNorm over all ranks' batches joined.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "longhaul/ddp/sync_batch_norm.h"
#include "tests/ddp/training.h"

namespace longhaul {
namespace {

using testing::expect_all_fine;
using testing::generator;
using testing::RankContext;
using testing::run_ranks;
using testing::same_bits;
using torch::Tensor;

constexpr int64_t kChannels = 3;
using Rows = std::vector<int64_t>;  // by rank

Tensor samples_of(Rank rank, int64_t rows, at::ScalarType type = torch::kFloat64,
                  std::vector<int64_t> rest = {4, 2}) {
  std::vector<int64_t> shape = {rows, kChannels};
  shape.insert(shape.end(), rest.begin(), rest.end());
  return torch::empty(shape, torch::kFloat64)
      .uniform_(-3, 5 + rank, generator(uint64_t{77} + static_cast<uint64_t>(rank)))
      .to(type);
}

Tensor joined(const Rows& rows, at::ScalarType type, const std::vector<int64_t>& rest) {
  std::vector<Tensor> parts;
  parts.reserve(rows.size());
  for (size_t rank = 0; rank < rows.size(); ++rank)
    parts.push_back(samples_of(static_cast<Rank>(rank), rows[rank], type, rest));
  return torch::cat(parts);
}

// The rows of `rank` in a joined batch.
Tensor part_of(const Tensor& all, const Rows& rows, Rank rank) {
  int64_t first = 0;
  for (Rank before = 0; before < rank; ++before) first += rows[static_cast<size_t>(before)];
  return all.narrow(0, first, rows[static_cast<size_t>(rank)]);
}

Tensor norm_loss_of(const Tensor& y) {
  return (y * y * y).sum() + y.sigmoid().sum();
}

template <typename Norm>
void expect_as_joined(const Rows& rows, at::ScalarType type, const std::vector<int64_t>& rest,
                      const torch::nn::BatchNormOptions& options, double tolerance) {
  const int size = static_cast<int>(rows.size());
  Norm whole(options);
  whole->to(type);
  Tensor x = joined(rows, type, rest).requires_grad_();
  const Tensor y = whole(x);
  norm_loss_of(y).backward();
  whole(x.detach() * 2);  // moves the running statistics once more

  expect_all_fine(run_ranks(size, [&](RankContext& context) {
    const auto close = [&](const Tensor& a, const Tensor& b) {
      return a.sizes() == b.sizes() && torch::allclose(a, b, tolerance, tolerance);
    };
    const auto communicator = context.connect();
    SyncBatchNorm norm(options, communicator->process_group());
    norm->to(type);
    const auto own_rows = rows[static_cast<size_t>(context.rank)];
    Tensor mine = samples_of(context.rank, own_rows, type, rest).requires_grad_();
    const Tensor out = norm(mine);
    EXPECT_EQ(out.dtype(), mine.dtype());
    EXPECT_TRUE(close(out, part_of(y, rows, context.rank)));
    norm_loss_of(out).backward();
    EXPECT_TRUE(close(mine.grad(), part_of(x.grad(), rows, context.rank)));
    if (options.affine()) {
      std::vector<Tensor> sums = {norm->weight.grad().clone()};
      communicator->process_group()->allreduce(sums)->wait();
      EXPECT_TRUE(close(sums[0], whole->weight.grad())) << sums[0] << whole->weight.grad();
      sums = {norm->bias.grad().clone()};
      communicator->process_group()->allreduce(sums)->wait();
      EXPECT_TRUE(close(sums[0], whole->bias.grad()));
    }
    norm(mine.detach() * 2);
    if (options.track_running_stats()) {
      EXPECT_TRUE(close(norm->running_mean, whole->running_mean));
      EXPECT_TRUE(close(norm->running_var, whole->running_var));
      EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), 2);
    }
    norm->eval();
    whole->eval();
    EXPECT_TRUE(close(norm(mine.detach()), whole(mine.detach())));
  }));
}

TEST(SyncBatchNorm, IsBatchNormOfAllRanksTogether) {
  using Options = torch::nn::BatchNormOptions;
  for (const Rows& rows : {Rows{5}, Rows{5, 5}, Rows{3, 1, 6}, Rows{4, 0, 2, 1}}) {
    expect_as_joined<torch::nn::BatchNorm2d>(rows, torch::kFloat64, {4, 2}, Options(kChannels),
                                             1e-10);
    expect_as_joined<torch::nn::BatchNorm2d>(rows, torch::kFloat32, {4, 2}, Options(kChannels),
                                             2e-4);
    expect_as_joined<torch::nn::BatchNorm1d>(rows, torch::kFloat64, {}, Options(kChannels), 1e-10);
    expect_as_joined<torch::nn::BatchNorm3d>(rows, torch::kFloat64, {2, 1, 3},
                                             Options(kChannels).affine(false).eps(1e-3), 1e-10);
    expect_as_joined<torch::nn::BatchNorm2d>(rows, torch::kFloat64, {4, 2},
                                             Options(kChannels).momentum(std::nullopt), 1e-10);
  }
}

TEST(SyncBatchNorm, HalfPrecisionKeepsItsTypeAndFp32Statistics) {
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    SyncBatchNorm norm(torch::nn::BatchNormOptions(kChannels), context.connect()->process_group());
    Tensor x = (samples_of(context.rank, 50) + 100).to(torch::kBFloat16).requires_grad_();
    const Tensor y = norm(x);
    EXPECT_EQ(y.dtype(), torch::kBFloat16);
    norm_loss_of(y).backward();
    EXPECT_EQ(x.grad().dtype(), torch::kBFloat16);
    EXPECT_EQ(norm->running_mean.dtype(), torch::kFloat32);
    const auto half_batch = [](Rank rank) {
      return (samples_of(rank, 50) + 100).to(torch::kBFloat16);
    };
    const Tensor all = torch::cat({half_batch(0), half_batch(1)}).to(torch::kFloat64);
    EXPECT_TRUE(torch::allclose(norm->running_mean.to(torch::kFloat64), all.mean({0, 2, 3}) * 0.1,
                                1e-5, 0));
  }));
}

TEST(SyncBatchNorm, RanksKeepTheSameStatisticsToTheBit) {
  std::vector<Tensor> means(3);
  expect_all_fine(run_ranks(3, [&](RankContext& context) {
    SyncBatchNorm norm(torch::nn::BatchNormOptions(kChannels), context.connect()->process_group());
    for (int i = 0; i < 5; ++i) norm(samples_of(context.rank, 3 + i, torch::kFloat32));
    means[static_cast<size_t>(context.rank)] = torch::cat({norm->running_mean, norm->running_var});
  }));
  EXPECT_TRUE(same_bits(means[0], means[1]) && same_bits(means[0], means[2]));
}

TEST(SyncBatchNorm, TooFewValuesAndSecondDerivativesAreRefusedOnEveryRank) {
  const auto reports = run_ranks(2, [&](RankContext& context) {
    SyncBatchNorm norm(torch::nn::BatchNormOptions(kChannels), context.connect()->process_group());
    norm(samples_of(context.rank, context.rank, torch::kFloat32, {}));  // one row in all
  });
  for (const auto& report : reports)
    EXPECT_THAT(report.what(), ::testing::HasSubstr("two values per channel over all ranks"));
  for (const auto& report : run_ranks(2, [&](RankContext& context) {
         SyncBatchNorm norm(torch::nn::BatchNormOptions(kChannels),
                            context.connect()->process_group());
         const Tensor x = samples_of(context.rank, 4).requires_grad_();
         torch::autograd::grad({norm_loss_of(norm(x))}, {x}, {}, /*retain_graph=*/true,
                               /*create_graph=*/true);
       }))
    EXPECT_THAT(report.what(), ::testing::HasSubstr("second derivative"));
  EXPECT_THROW(SyncBatchNorm(torch::nn::BatchNormOptions(3), nullptr), Error);
}

torch::nn::Sequential small_net() {
  return torch::nn::Sequential(torch::nn::Linear(7, kChannels), torch::nn::BatchNorm1d(kChannels),
                               torch::nn::Linear(kChannels, kChannels),
                               torch::nn::BatchNorm1d(kChannels));
}

TEST(SyncBatchNorm, ConversionKeepsTensorsAndNamesAndTrainsUnderDdp) {
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    const auto communicator = context.connect();
    torch::nn::Sequential model = small_net();
    const auto before = model->named_parameters();
    convert_sync_batch_norm(*model, communicator);
    const auto after = model->named_parameters();
    ASSERT_EQ(before.keys(), after.keys());
    for (const auto& item : before) EXPECT_TRUE(item.value().is_same(after[item.key()]));
    EXPECT_TRUE(model->named_buffers().contains("3.running_mean"));

    testing::fill(*model, 3);
    DistributedDataParallel ddp(communicator, model);
    for (int64_t step = 0; step < 3; ++step) {
      ddp.zero_grad();
      testing::loss_of(ddp(testing::batch_of(context.rank, step))).backward();
      torch::NoGradGuard no_grad;
      for (auto& parameter : model->parameters()) parameter -= 0.1 * parameter.grad();
    }
    EXPECT_EQ(model->named_buffers()["1.num_batches_tracked"].item<int64_t>(), 3);
    // The same as one rank with the whole batch.
    torch::nn::Sequential whole = small_net();
    testing::fill(*whole, 3);
    for (int64_t step = 0; step < 3; ++step) {
      whole->zero_grad();
      testing::loss_of(
          whole->forward(torch::cat({testing::batch_of(0, step), testing::batch_of(1, step)})))
          .backward();
      torch::NoGradGuard no_grad;
      for (auto& parameter : whole->parameters()) parameter -= 0.1 * parameter.grad();
    }
    for (const auto& item : whole->named_parameters())
      EXPECT_TRUE(torch::allclose(item.value(), after[item.key()], 1e-3, 1e-4)) << item.key();
  }));
}

struct TypedImpl : torch::nn::Module {
  TypedImpl() { block->push_back(torch::nn::BatchNorm1d(kChannels)); }
  torch::nn::Sequential block = register_module("block", torch::nn::Sequential());
  torch::nn::BatchNorm1d norm = register_module("norm", torch::nn::BatchNorm1d(kChannels));
};

TEST(SyncBatchNorm, ALayerThatCannotBeReplacedIsNamedAndNothingIs) {
  expect_all_fine(run_ranks(1, [&](RankContext& context) {
    TypedImpl model;
    try {
      convert_sync_batch_norm(model, context.connect());
      ADD_FAILURE() << "a typed member cannot be replaced";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalid);
      EXPECT_THAT(error.what(), ::testing::HasSubstr("'norm' is a torch::nn::BatchNorm1d"));
    }
    EXPECT_TRUE(model.block[0]->as<torch::nn::BatchNorm1d>());
  }));
}

}  // namespace
}  // namespace longhaul

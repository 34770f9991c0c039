// The compressed all-reduce against a sum made by itself, to the bit, on every rank.
#include "longhaul/collectives/compressed_allreduce.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <limits>
#include <random>

#include "collectives/watched_communicator.h"
#include "longhaul/base/strings.h"
#include "longhaul/codec/codec.h"
#include "tests/collectives/reference.h"
#include "tests/support/cluster.h"

namespace longhaul::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

at::Tensor reduce(CompressedAllreduce& allreduce, at::Tensor tensor, double scale, uint64_t step,
                  uint32_t bucket) {
  const auto future = allreduce.start(tensor, scale, step, bucket);
  future->waitAndThrow();
  EXPECT_TRUE(future->value().toTensorVector().at(0).is_same(tensor));
  return tensor;
}

struct Case {
  int size;
  const char* codec;
};
void PrintTo(const Case& one, std::ostream* out) {
  *out << one.codec << " at " << one.size;
}
class AllreduceTest : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Worlds, AllreduceTest,
                         ::testing::Values(Case{1, "none"}, Case{1, "zstd"}, Case{2, "none"},
                                           Case{2, "zstd"}, Case{3, "none"}, Case{3, "zstd"},
                                           Case{4, "none"}, Case{4, "zstd"}, Case{7, "none"},
                                           Case{7, "zstd"}),
                         [](const auto& info) {
                           return str_cat(info.param.codec, info.param.size);
                         });

TEST_P(AllreduceTest, EqualsTheRankOrderSumToTheBitForAllTypesAndSizes) {
  const CodecSpec spec = *CodecSpec::parse(GetParam().codec);
  expect_all_fine(run_ranks(GetParam().size, [&](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce allreduce(communicator, {spec});
    uint32_t bucket = 0;
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
      for (const int64_t count : {0, 1, 2, 3, 6, 7, 1000, 4099, 100003, 1200007}) {
        std::vector<at::Tensor> inputs;
        inputs.reserve(static_cast<size_t>(context.size));
        for (int rank = 0; rank < context.size; ++rank) {
          inputs.push_back(gradient(1000 * bucket + rank, count, type));
        }
        const double scale = 1.0 / context.size;
        const at::Tensor wanted = reference_sum(inputs, scale);
        const at::Tensor got = reduce(allreduce, inputs[context.rank].clone(), scale, 1, bucket++);
        EXPECT_TRUE(equal_bits(got, wanted)) << count << " of " << c10::toString(type);
      }
    }
  }));
}

TEST_P(AllreduceTest, NanAndInfinityComeThrough) {
  const CodecSpec spec = *CodecSpec::parse(GetParam().codec);
  expect_all_fine(run_ranks(GetParam().size, [&](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce allreduce(communicator, {spec});
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
      at::Tensor tensor = torch::ones({64}, type);
      if (context.rank == context.size - 1) {
        tensor[3] = std::numeric_limits<double>::quiet_NaN();
        tensor[40] = -std::numeric_limits<double>::infinity();
      }
      reduce(allreduce, tensor, 1.0, 1, 0);
      EXPECT_EQ(tensor.isnan().nonzero().item<int64_t>(), 3);
      EXPECT_EQ(tensor.isinf().nonzero().item<int64_t>(), 40);
      EXPECT_EQ(tensor[0].item<double>(), context.size);
    }
  }));
}

TEST_P(AllreduceTest, AThousandRandomReductionsWhileTheMainGroupIsInUse) {
  const CodecSpec spec = *CodecSpec::parse(GetParam().codec);
  expect_all_fine(run_ranks(GetParam().size, [&](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce allreduce(communicator, {spec});
    std::mt19937 shared(7);  // the same choices on every rank
    for (uint64_t step = 0; step < 100; ++step) {
      std::vector<at::Tensor> wanted;
      std::vector<c10::intrusive_ptr<c10::ivalue::Future>> futures;
      for (uint32_t bucket = 0; bucket < 10; ++bucket) {
        const auto count = static_cast<int64_t>(shared() % 300);
        std::vector<at::Tensor> inputs;
        inputs.reserve(static_cast<size_t>(context.size));
        for (int rank = 0; rank < context.size; ++rank) {
          inputs.push_back(gradient(shared(), count, at::kFloat));
        }
        wanted.push_back(reference_sum(inputs, 0.5));
        futures.push_back(allreduce.start(inputs[context.rank].clone(), 0.5, step, bucket));
      }
      std::vector<at::Tensor> plain{torch::ones({100})};
      communicator->process_group()->allreduce(plain)->wait();
      EXPECT_TRUE(plain[0].equal(torch::full({100}, context.size)));
      for (size_t bucket = 0; bucket < futures.size(); ++bucket) {
        futures[bucket]->waitAndThrow();
        ASSERT_TRUE(equal_bits(futures[bucket]->value().toTensorVector().at(0), wanted[bucket]))
            << "bucket " << bucket << " of step " << step;
      }
    }
  }));
}

// --- Lossy codecs: not the exact sum, but the same bits everywhere -------------------------------

class LossyTest : public ::testing::TestWithParam<std::tuple<int, std::string>> {
 protected:
  static int size() { return std::get<0>(GetParam()); }
  static CodecSpec spec() { return *CodecSpec::parse(std::get<1>(GetParam())); }
};
INSTANTIATE_TEST_SUITE_P(
    Worlds, LossyTest,
    ::testing::Combine(::testing::Values(1, 2, 3, 4, 7),
                       ::testing::Values<std::string>("bf16", "int8", "rms:step=0.5",
                                                      "rms:step=1,stage=huffman",
                                                      "int8:rounding=stochastic")),
    [](const auto& info) {
      std::string name = str_cat(std::get<1>(info.param), "_of_", std::get<0>(info.param));
      std::replace_if(name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
      return name;
    });

// Every rank's bits next to those of rank 0.
void expect_same_on_all_ranks(Communicator& communicator, const at::Tensor& tensor) {
  std::vector<at::Tensor> first{tensor.clone()};
  communicator.process_group()->broadcast(first)->wait();
  EXPECT_TRUE(equal_bits(first[0], tensor)) << "rank " << communicator.rank();
}

TEST_P(LossyTest, AllRanksEndWithTheSameBitsNearTheSum) {
  expect_all_fine(run_ranks(size(), [&](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce allreduce(communicator, {spec()});
    uint32_t bucket = 0;
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      if (!check_supports(spec(), type == at::kFloat      ? ElementType::kFloat32
                                  : type == at::kBFloat16 ? ElementType::kBFloat16
                                                          : ElementType::kFloat16)) {
        continue;
      }
      for (const int64_t count : {0, 1, 7, 1000, 4099, 300001}) {
        std::vector<at::Tensor> inputs;
        inputs.reserve(static_cast<size_t>(context.size));
        for (int rank = 0; rank < context.size; ++rank) {
          inputs.push_back(gradient(1000 * bucket + rank, count, type));
        }
        const at::Tensor wanted = reference_sum(inputs, 1.0 / context.size).to(at::kFloat);
        const at::Tensor got =
            reduce(allreduce, inputs[context.rank].clone(), 1.0 / context.size, 1, bucket++);
        expect_same_on_all_ranks(*communicator, got);
        if (count < 1000) continue;
        const double error = ((got.to(at::kFloat) - wanted).norm() / wanted.norm()).item<double>();
        EXPECT_LT(error, 0.45) << count << " of " << c10::toString(type);
        EXPECT_TRUE(context.size == 1 || error > 0 || type != at::kFloat);
      }
    }
  }));
}

TEST_P(LossyTest, NanArrivesAsNanOnEveryRank) {
  expect_all_fine(run_ranks(size(), [&](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce allreduce(communicator, {spec()});
    at::Tensor tensor = gradient(context.rank, 5000, at::kFloat);
    if (context.rank == context.size - 1) {
      tensor[3] = std::numeric_limits<float>::quiet_NaN();
      tensor[4000] = std::numeric_limits<float>::infinity();
    }
    reduce(allreduce, tensor, 1.0, 1, 0);
    EXPECT_TRUE(tensor[3].isnan().item<bool>());
    EXPECT_TRUE(tensor[4000].isinf().item<bool>());
    EXPECT_TRUE(tensor[4999].isfinite().item<bool>());
    expect_same_on_all_ranks(*communicator, tensor);
  }));
}

// With error feedback what one step drops comes with a later one: the sum over steps stays within
// what a step can drop, where without it the error grows with every step.
TEST(CompressedAllreduceTest, AResidualMakesUpForWhatWasDropped) {
  for (const int size : {2, 3, 4}) {
    expect_all_fine(run_ranks(size, [](RankContext& context) {
      const auto communicator = context.connect();
      CompressedAllreduce allreduce(communicator, {*CodecSpec::parse("rms:step=2")});
      constexpr int64_t kCount = 50000;
      constexpr int kSteps = 20;
      std::vector<at::Tensor> inputs;
      inputs.reserve(static_cast<size_t>(context.size));
      for (int rank = 0; rank < context.size; ++rank) {
        inputs.push_back(gradient(rank, kCount, at::kFloat));
      }
      const at::Tensor exact = reference_sum(inputs, 1.0 / context.size);
      const auto error_after = [&](const at::Tensor& residual) {
        at::Tensor all = at::zeros({kCount});
        for (uint64_t step = 1; step <= kSteps; ++step) {
          at::Tensor tensor = inputs[static_cast<size_t>(context.rank)].clone();
          allreduce.start(tensor, 1.0 / context.size, step, 0, 0, residual)->waitAndThrow();
          expect_same_on_all_ranks(*communicator, tensor);
          all += tensor;
        }
        return ((all - kSteps * exact).norm() / exact.norm()).item<double>();
      };
      const double without = error_after({});
      const double with = error_after(at::zeros({kCount}));
      EXPECT_GT(without, 4.0);
      EXPECT_LT(with, 2.0);
    }));
  }
}

TEST(CompressedAllreduceTest, NanAndInfLeaveNoResidual) {
  expect_all_fine(run_ranks(3, [](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce allreduce(communicator, {*CodecSpec::parse("rms")});
    const at::Tensor residual = at::zeros({5000});
    at::Tensor overflown = gradient(context.rank, 5000, at::kFloat);
    overflown[17] = std::numeric_limits<float>::infinity();
    overflown[4000] = std::numeric_limits<float>::quiet_NaN();
    allreduce.start(overflown, 1.0, 1, 0, 0, residual)->waitAndThrow();
    EXPECT_FALSE(overflown[17].isfinite().item<bool>());
    EXPECT_TRUE(residual.isfinite().all().item<bool>());
    at::Tensor fine = gradient(context.rank, 5000, at::kFloat);
    allreduce.start(fine, 1.0, 2, 0, 0, residual)->waitAndThrow();
    EXPECT_TRUE(fine.isfinite().all().item<bool>());
  }));
}

TEST(CompressedAllreduceTest, ResidualsThatDoNotFitAreRefusedAtTheCall) {
  CompressedAllreduce allreduce(Communicator::create(nullptr, {}), {*CodecSpec::parse("rms")});
  const auto start = [&](const at::Tensor& tensor, const at::Tensor& residual) {
    allreduce.start(tensor, 1, 0, 0, 0, residual);
  };
  EXPECT_THROW(start(torch::ones({3}), torch::zeros({4})), Error);
  EXPECT_THROW(start(torch::ones({3}), torch::zeros({3}, torch::kDouble)), Error);
  EXPECT_THROW(start(torch::ones({3}, torch::kDouble), torch::zeros({3})), Error);
}

TEST(CompressedAllreduceTest, BucketsMayTakeDifferentCodecs) {
  expect_all_fine(run_ranks(3, [](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce allreduce(communicator,
                                  {*CodecSpec::parse("none"), *CodecSpec::parse("rms:step=0.5")});
    const auto sent_with = [&](size_t codec) {
      const uint64_t before = communicator->traffic().counts().bytes_sent;
      at::Tensor tensor = gradient(context.rank, 60000, at::kFloat);
      allreduce.start(tensor, 1.0, 1, static_cast<uint32_t>(codec), codec)->waitAndThrow();
      expect_same_on_all_ranks(*communicator, tensor);
      return communicator->traffic().counts().bytes_sent - before;
    };
    const uint64_t raw = sent_with(0);
    EXPECT_LT(sent_with(1) * 7, raw);
  }));
}

// The first leg at one step, the second at another: as many bytes as half of each.
TEST(CompressedAllreduceTest, LegsMayHaveStepsOfTheirOwn) {
  expect_all_fine(run_ranks(4, [](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce allreduce(
        communicator, {*CodecSpec::parse("rms:step=2"), *CodecSpec::parse("rms:step=0.25"),
                       *CodecSpec::parse("rms:step=2,result=0.25")});
    std::vector<double> sent;
    std::vector<double> errors;
    std::vector<at::Tensor> inputs;
    inputs.reserve(static_cast<size_t>(context.size));
    for (int rank = 0; rank < context.size; ++rank) {
      inputs.push_back(gradient(rank, 200000, at::kFloat));
    }
    const at::Tensor exact = reference_sum(inputs, 1.0);
    for (size_t codec = 0; codec < 3; ++codec) {
      const uint64_t before = communicator->traffic().counts().bytes_sent;
      at::Tensor tensor = inputs[static_cast<size_t>(context.rank)].clone();
      allreduce.start(tensor, 1.0, 1, static_cast<uint32_t>(codec), codec)->waitAndThrow();
      expect_same_on_all_ranks(*communicator, tensor);
      sent.push_back(static_cast<double>(communicator->traffic().counts().bytes_sent - before));
      errors.push_back(((tensor - exact).norm() / exact.norm()).item<double>());
    }
    EXPECT_NEAR(sent[2], (sent[0] + sent[1]) / 2, 0.03 * sent[1]);
    EXPECT_LT(errors[2], errors[0]);
    EXPECT_GT(errors[2], errors[1]);
  }));
}

TEST(CompressedAllreduceTest, CountsWhatItSaves) {
  expect_all_fine(run_ranks(4, [](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce none(communicator, {*CodecSpec::parse("none")});
    constexpr int64_t kCount = 131072;
    reduce(none, gradient(context.rank, kCount, at::kFloat), 1.0, 1, 0);
    const TrafficCounts plain = communicator->traffic().counts();
    EXPECT_EQ(plain.bytes_raw, 2 * 3 * kCount * 4 / 4);
    // Six frames, whose headers and codec overhead are all that "none" adds.
    EXPECT_GE(plain.bytes_sent, plain.bytes_raw + 6 * kFrameHeaderBytes);
    EXPECT_LE(plain.bytes_sent, plain.bytes_raw + 6 * (kFrameHeaderBytes + 64));

    CompressedAllreduce zstd(communicator, {*CodecSpec::parse("zstd")});
    reduce(zstd, gradient(context.rank, kCount, at::kFloat), 1.0, 1, 0);
    const TrafficCounts both = communicator->traffic().counts();
    EXPECT_EQ(both.bytes_raw, 2 * plain.bytes_raw);
    EXPECT_LT((both.bytes_sent - plain.bytes_sent) * 1.1, plain.bytes_raw);
  }));
}

TEST(CompressedAllreduceTest, RanksWithDifferentCodecsAreToldSo) {
  const auto reports = run_ranks(3, [](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce(communicator, {*CodecSpec::parse(context.rank == 2 ? "none" : "zstd")});
  });
  for (const RankReport& report : reports) {
    const CollectiveError* error = report.collective_error();
    ASSERT_NE(error, nullptr);
    EXPECT_EQ(error->kind(), ErrorKind::kInvalid);
    EXPECT_THAT(error->what(),
                AllOf(HasSubstr("rank 0 has 'zstd'"), HasSubstr("rank 2 has 'none'")));
  }
}

TEST(CompressedAllreduceTest, TensorsItCannotTakeAreRefusedAtTheCall) {
  CompressedAllreduce allreduce(Communicator::create(nullptr, {}), {*CodecSpec::parse("none")});
  EXPECT_THROW(allreduce.start(torch::ones({3}, torch::kLong), 1, 0, 0), Error);
  EXPECT_THROW(allreduce.start(torch::ones({3, 3}).t(), 1, 0, 0), Error);
}

// Where in a frame the byte that a link flipped lies.
struct Flip {
  const char* name;
  int leg;
  size_t at;
};
void PrintTo(const Flip& flip, std::ostream* out) {
  *out << flip.name;
}
class CorruptTest : public ::testing::TestWithParam<std::tuple<int, Flip>> {};
constexpr Flip kInBody{"body", 0, kFrameHeaderBytes + 5};
constexpr Flip kInHeader{"header", 0, 9};
constexpr Flip kInResult{"result", 1, 70};
std::string name_of_flip(const ::testing::TestParamInfo<std::tuple<int, Flip>>& info) {
  return str_cat(std::get<1>(info.param).name, std::get<0>(info.param));
}
INSTANTIATE_TEST_SUITE_P(TwoRanks, CorruptTest,  // they have one leg
                         ::testing::Combine(::testing::Values(2),
                                            ::testing::Values(kInBody, kInHeader)),
                         name_of_flip);
INSTANTIATE_TEST_SUITE_P(MoreRanks, CorruptTest,
                         ::testing::Combine(::testing::Values(3, 4),
                                            ::testing::Values(kInBody, kInHeader, kInResult)),
                         name_of_flip);

TEST_P(CorruptTest, AFlippedByteNamesItsSenderOnEveryRankAndKillsNobody) {
  const auto [size, flip] = GetParam();
  const auto reports = run_ranks(size, [&, flip = flip](RankContext& context) {
    const auto communicator = context.connect();
    if (context.rank == 1) {
      watch_of(*communicator)
          ->set_frame_filter([&](const FrameLabel& label, MutableByteSpan frame) {
            if (label.bucket == 2 && label.leg == flip.leg) frame[flip.at] ^= 0x10;
          });
    }
    CompressedAllreduce allreduce(communicator, {*CodecSpec::parse("zstd")});
    std::vector<c10::intrusive_ptr<c10::ivalue::Future>> futures;
    futures.reserve(4);
    for (uint32_t bucket = 0; bucket < 4; ++bucket) {
      futures.push_back(allreduce.start(gradient(bucket, 50000, at::kFloat), 1, 9, bucket));
      if (bucket == 1) futures[1]->waitAndThrow();
    }
    futures[2]->wait();
    futures[3]->wait();
    EXPECT_TRUE(!futures[2]->hasError() || futures[3]->hasError()) << "what comes after it fails";
    futures[2]->waitAndThrow();
    futures[3]->waitAndThrow();
    // Who has had good frames only, as the sender itself, goes on until it misses the others.
    for (uint32_t bucket = 4; bucket < 1000; ++bucket) {
      reduce(allreduce, gradient(bucket, 50000, at::kFloat), 1, 9, bucket);
    }
  });
  for (const RankReport& report : reports) {
    const CollectiveError* error = report.collective_error();
    ASSERT_NE(error, nullptr);
    EXPECT_EQ(error->kind(), ErrorKind::kCorrupt) << error->what();
    EXPECT_EQ(error->peer(), 1) << error->what();
    EXPECT_THAT(error->what(), HasSubstr("bucket 2 of step 9"));
  }
}

}  // namespace
}  // namespace longhaul::testing

// Ten thousand reductions of random sizes and types through random codecs, many under way at once:
// all ranks end with the same bits, and exact codecs with those of the rank-order sum.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <random>
#include <string_view>
#include <vector>

#include "longhaul/codec/codec.h"
#include "longhaul/collectives/compressed_allreduce.h"
#include "tests/collectives/reference.h"
#include "tests/support/cluster.h"

namespace longhaul::testing {
namespace {

constexpr int kRanks = 3;
constexpr uint64_t kSteps = 10'000;
constexpr size_t kUnderWay = 64;

const std::vector<CodecSpec>& specs() {
  static const std::vector<CodecSpec> all = [] {
    std::vector<CodecSpec> parsed;
    for (const char* text :
         {"none", "zstd", "lossless", "bf16", "fp16:stage=rice", "int8", "int8:rounding=stochastic",
          "rms:step=0.5", "rms:step=1,stage=huffman"}) {
      parsed.push_back(*CodecSpec::parse(text));
    }
    return parsed;
  }();
  return all;
}

struct Kind {
  at::ScalarType torch;
  ElementType element;
};
constexpr Kind kKinds[] = {{at::kFloat, ElementType::kFloat32},
                           {at::kBFloat16, ElementType::kBFloat16},
                           {at::kHalf, ElementType::kFloat16},
                           {at::kDouble, ElementType::kFloat64}};

// The same on every rank.
struct Reduction {
  int64_t count = 0;
  Kind kind = kKinds[0];
  size_t codec = 0;
  bool has_nan = false;

  static Reduction of(uint64_t step) {
    std::mt19937_64 random(step);
    Reduction one;
    const uint64_t size = random() % 400;
    one.count = static_cast<int64_t>(size == 0  ? 100'000 + random() % 30'000
                                     : size < 8 ? 10'000 + random() % 10'000
                                                : random() % 3'000);
    one.kind = kKinds[random() % std::size(kKinds)];
    do {
      one.codec = random() % specs().size();
    } while (!check_supports(specs()[one.codec], one.kind.element));
    one.has_nan = one.count > 0 && random() % 50 == 0;
    return one;
  }

  at::Tensor input(uint64_t step, Rank rank) const {
    at::Tensor tensor = gradient(step * kRanks + static_cast<uint64_t>(rank), count, kind.torch);
    if (has_nan && rank == 1) {
      tensor[0] = std::numeric_limits<double>::quiet_NaN();
      tensor[count - 1] = -std::numeric_limits<double>::infinity();
    }
    return tensor;
  }
};

uint64_t hash_of(const at::Tensor& tensor) {
  return std::hash<std::string_view>()(
      {static_cast<const char*>(tensor.data_ptr()), static_cast<size_t>(tensor.nbytes())});
}

// One rank's part; returns the hash of every result. The exact sums are checked by one rank each.
std::vector<uint64_t> reduce_all(RankContext& context) {
  CompressedAllreduce allreduce(context.connect(), specs());
  std::vector<uint64_t> hashes;
  std::deque<std::pair<at::Tensor, c10::intrusive_ptr<c10::ivalue::Future>>> under_way;
  const auto land = [&] {
    const uint64_t step = hashes.size();
    const auto [tensor, future] = under_way.front();
    under_way.pop_front();
    future->waitAndThrow();
    hashes.push_back(hash_of(tensor));
    const Reduction one = Reduction::of(step);
    if (!specs()[one.codec].lossless() || one.has_nan || step % kRanks != uint64_t(context.rank)) {
      return;
    }
    std::vector<at::Tensor> inputs;
    inputs.reserve(kRanks);
    for (Rank rank = 0; rank < kRanks; ++rank) inputs.push_back(one.input(step, rank));
    EXPECT_TRUE(equal_bits(tensor, reference_sum(inputs, 1.0 / kRanks)))
        << "step " << step << ": " << one.count << " of " << c10::toString(one.kind.torch);
  };
  for (uint64_t step = 0; step < kSteps; ++step) {
    const Reduction one = Reduction::of(step);
    const at::Tensor tensor = one.input(step, context.rank);
    const auto bucket = static_cast<uint32_t>(step % 7);
    under_way.emplace_back(tensor, allreduce.start(tensor, 1.0 / kRanks, step, bucket, one.codec));
    if (under_way.size() == kUnderWay) land();
  }
  while (!under_way.empty()) land();
  return hashes;
}

TEST(RandomReductionsTest, TenThousandEndWithTheSameBitsOnEveryRank) {
  std::vector<std::vector<uint64_t>> hashes(kRanks);
  expect_all_fine(run_ranks(
      kRanks,
      [&](RankContext& context) {
        at::set_num_threads(1);
        hashes[static_cast<size_t>(context.rank)] = reduce_all(context);
      },
      std::chrono::seconds(280)));
  for (size_t rank = 0; rank < kRanks; ++rank) {
    ASSERT_EQ(hashes[rank].size(), kSteps) << "rank " << rank;
    for (uint64_t step = 0; step < kSteps; ++step) {
      const Reduction one = Reduction::of(step);
      ASSERT_EQ(hashes[rank][step], hashes[0][step])
          << "rank " << rank << ", step " << step << ": " << one.count << " of "
          << c10::toString(one.kind.torch) << " through " << specs()[one.codec].str();
    }
  }
}

}  // namespace
}  // namespace longhaul::testing

#include "cluster/shards/seeded_permutation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"

namespace longhaul {
namespace {

std::vector<uint64_t> all_of(uint64_t size, uint64_t seed) {
  const SeededPermutation permutation(size, seed);
  std::vector<uint64_t> elements;
  elements.reserve(size);
  for (uint64_t position = 0; position < size; ++position) {
    elements.push_back(permutation(position));
  }
  return elements;
}

TEST(SeededPermutation, HitsEachElementOnceForEverySize) {
  for (uint64_t size = 0; size <= 300; ++size) {
    for (const uint64_t seed : {0ull, 1ull, 0xdeadbeefull}) {
      std::vector<int> hits(size);
      for (const uint64_t element : all_of(size, seed)) ++hits.at(element);
      EXPECT_EQ(hits, std::vector<int>(size, 1)) << size;
    }
  }
  std::vector<bool> hit(1'000'003);
  for (const uint64_t element : all_of(hit.size(), 5)) hit.at(element) = true;
  EXPECT_EQ(std::count(hit.begin(), hit.end(), true), 1'000'003);
}

// The task numbers in a table on disk stand for these elements: they never change. Computed from
// the header's words by another program too.
TEST(SeededPermutation, GoldenValues) {
  EXPECT_EQ(all_of(10, 42), (std::vector<uint64_t>{2, 0, 1, 8, 3, 7, 9, 6, 5, 4}));
  EXPECT_EQ(all_of(10, 43), (std::vector<uint64_t>{6, 4, 2, 5, 8, 0, 7, 9, 3, 1}));
  const SeededPermutation large(1'000'000'000'000, 7);
  EXPECT_EQ(large(0), 510'350'801'158u);
  EXPECT_EQ(large(999'999'999'999), 513'060'209'888u);
}

// Chi-squared over (position, element) for many seeds: 99 degrees of freedom in all but the sums
// that are fixed (81), five standard deviations.
TEST(SeededPermutation, EveryElementIsAsLikelyAtEveryPosition) {
  constexpr size_t kSize = 10;
  constexpr int kSeeds = 20'000;
  std::vector<double> seen(kSize * kSize);
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const std::vector<uint64_t> elements = all_of(kSize, seed);
    for (size_t position = 0; position < kSize; ++position) {
      ++seen[position * kSize + elements[position]];
    }
  }
  constexpr double kExpected = static_cast<double>(kSeeds) / kSize;
  double chi_squared = 0;
  for (const double count : seen) chi_squared += std::pow(count - kExpected, 2) / kExpected;
  constexpr double kFreedom = (kSize - 1) * (kSize - 1);
  EXPECT_LT(chi_squared, kFreedom + 5 * std::sqrt(2 * kFreedom));
}

TEST(SeededPermutation, APositionBeyondTheEndIsABug) {
  EXPECT_THROW(SeededPermutation(3, 0)(3), BugError);
}

}  // namespace
}  // namespace longhaul

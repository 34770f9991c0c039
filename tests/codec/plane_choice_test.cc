#include "codec/plane_choice.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace longhaul {
namespace {

// `count` draws, each the number of heads among `coins` flips (coins = 8: 2.5 bits each).
std::vector<uint8_t> skewed_bytes(size_t count, int coins) {
  std::mt19937 random(3);
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) {
    byte = static_cast<uint8_t>(std::popcount(random() & ((1U << coins) - 1)) * 7);
  }
  return bytes;
}

std::vector<uint8_t> noise(size_t count) {
  std::mt19937 random(5);
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

TEST(PlaneChoiceTest, NoiseStaysRaw) {
  EXPECT_EQ(choose_plane(noise(kMaxSampleBytes)), PlaneChoice::kRaw);
}

TEST(PlaneChoiceTest, ExponentsAreHuffmanCoded) {
  EXPECT_EQ(choose_plane(skewed_bytes(kMaxSampleBytes, 8)), PlaneChoice::kHuffman);
  EXPECT_EQ(choose_plane(skewed_bytes(kMaxSampleBytes, 20)), PlaneChoice::kHuffman);
}

TEST(PlaneChoiceTest, RunsAreSearchedForMatches) {
  EXPECT_EQ(choose_plane(std::vector<uint8_t>(kMaxSampleBytes, 0)), PlaneChoice::kLz);
  EXPECT_EQ(choose_plane(std::vector<uint8_t>(64, 0x3F)), PlaneChoice::kLz);
  std::vector<uint8_t> rows = noise(kMaxSampleBytes);
  std::fill_n(rows.begin() + 256, 256, 0);
  EXPECT_EQ(choose_plane(rows), PlaneChoice::kLz);
}

TEST(PlaneChoiceTest, NothingToSeeStaysRaw) {
  EXPECT_EQ(choose_plane({}), PlaneChoice::kRaw);
}

}  // namespace
}  // namespace longhaul

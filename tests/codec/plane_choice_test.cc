#include "codec/plane_choice.h"

#include <gtest/gtest.h>

#include <bit>
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
  EXPECT_EQ(choose_plane(std::vector<uint8_t>(kMaxSampleBytes, 0)), PlaneChoice::kMatches);
  EXPECT_EQ(choose_plane(std::vector<uint8_t>(64, 0x3F)), PlaneChoice::kMatches);
}

// Zero rows, with noise or with exponents between them, whatever their share is.
TEST(PlaneChoiceTest, WhatLiesBetweenRunsIsJudgedOnItsOwn) {
  for (const size_t zeros : {192, 256, 512, 768, 960}) {
    std::vector<uint8_t> mantissas = noise(kMaxSampleBytes);
    std::fill_n(mantissas.begin(), zeros, 0);
    EXPECT_EQ(choose_plane(mantissas), PlaneChoice::kMatches) << zeros;
    std::vector<uint8_t> exponents = skewed_bytes(kMaxSampleBytes, 8);
    std::fill_n(exponents.begin(), zeros, 0);
    EXPECT_EQ(choose_plane(exponents), PlaneChoice::kMatchesHuffman) << zeros;
  }
}

TEST(PlaneChoiceTest, SmallSamplesAreJudgedLikeLargeOnes) {
  for (const size_t bytes : {64, 128, 192, 256, 320, 448, 512, 768}) {
    EXPECT_EQ(choose_plane(noise(bytes)), PlaneChoice::kRaw) << bytes;
    EXPECT_EQ(choose_plane(skewed_bytes(bytes, 8)), PlaneChoice::kHuffman) << bytes;
  }
}

TEST(PlaneChoiceTest, NothingToSeeStaysRaw) {
  EXPECT_EQ(choose_plane({}), PlaneChoice::kRaw);
}

}  // namespace
}  // namespace longhaul

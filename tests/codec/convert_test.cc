#include "codec/convert.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/codec/sample_data.h"

namespace longhaul {
namespace {

using namespace testing;  // longhaul::testing

uint16_t narrow(ElementType type, SimdLevel level, float value) {
  // Eight of them, so that vectors take part.
  std::vector<float> floats(8, value);
  std::vector<uint16_t> narrow(8);
  from_float32(type, level, reinterpret_cast<const uint8_t*>(floats.data()), 8,
               reinterpret_cast<uint8_t*>(narrow.data()));
  return narrow[0];
}

float wide(ElementType type, SimdLevel level, uint16_t bits) {
  std::vector<uint16_t> narrow(8, bits);
  std::vector<float> floats(8);
  to_float32(type, level, reinterpret_cast<const uint8_t*>(narrow.data()), 8,
             reinterpret_cast<uint8_t*>(floats.data()));
  return floats[0];
}

TEST(ConvertTest, KnownNumbersBecomeKnownBits) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  struct Row {
    float value;
    uint16_t half;
    uint16_t brain;
  };
  for (const SimdLevel level : levels()) {
    for (const Row& row :
         {Row{0.0F, 0x0000, 0x0000}, Row{-0.0F, 0x8000, 0x8000}, Row{1.0F, 0x3C00, 0x3F80},
          Row{-2.5F, 0xC100, 0xC020}, Row{65504.0F, 0x7BFF, 0x4780}, Row{65519.0F, 0x7BFF, 0x4780},
          Row{65520.0F, 0x7C00, 0x4780}, Row{kInf, 0x7C00, 0x7F80}, Row{-kInf, 0xFC00, 0xFF80},
          Row{0x1p-24F, 0x0001, 0x3380}, Row{0x1p-25F, 0x0000, 0x3300},
          Row{0x1.8p-25F, 0x0001, 0x3340}, Row{0x1.ff8p-15F, 0x03FF, 0x3880},
          Row{0x1p-14F, 0x0400, 0x3880}, Row{3.4e38F, 0x7C00, 0x7F80},
          Row{1.00390625F, 0x3C04, 0x3F80}, Row{1.01171875F, 0x3C0C, 0x3F82}}) {
      EXPECT_EQ(narrow(ElementType::kFloat16, level, row.value), row.half) << row.value;
      EXPECT_EQ(narrow(ElementType::kBFloat16, level, row.value), row.brain) << row.value;
    }
  }
}

TEST(ConvertTest, EveryTwoByteNumberComesBack) {
  for (const ElementType type : {ElementType::kFloat16, ElementType::kBFloat16}) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const auto narrow_bits = static_cast<uint16_t>(bits);
      const float value = wide(type, SimdLevel::kScalar, narrow_bits);
      for (const SimdLevel level : levels()) {
        ASSERT_EQ(std::bit_cast<uint32_t>(wide(type, level, narrow_bits)),
                  std::bit_cast<uint32_t>(value));
        const uint16_t again = narrow(type, level, value);
        if (std::isnan(value)) {
          ASSERT_TRUE(std::isnan(wide(type, level, again)));
          ASSERT_EQ(again & 0x8000, bits & 0x8000);
        } else {
          ASSERT_EQ(again, narrow_bits);
        }
      }
    }
  }
}

// Rounding is to nearest, ties to even: no other number of the type is nearer.
TEST(ConvertTest, EveryLevelRoundsAllBitsAlike) {
  std::mt19937_64 random(2);
  for (const ElementType type : kAllElementTypes) {
    for (int round = 0; round < 40; ++round) {
      constexpr size_t kCount = 1003;
      std::vector<uint32_t> floats(kCount);
      for (uint32_t& bits : floats) {
        bits = static_cast<uint32_t>(random());
        if (round % 2 == 0) bits &= 0xFFFFF000;                      // ties
        if (round % 4 < 2) bits = (bits & 0x8FFFFFFF) + 0x33000000;  // around fp16's range
      }
      const auto* from = reinterpret_cast<const uint8_t*>(floats.data());
      std::vector<uint8_t> expected(kCount * element_bytes(type));
      from_float32(type, SimdLevel::kScalar, from, kCount, expected.data());
      std::vector<float> sums(kCount, 1);
      add_elements(type, SimdLevel::kScalar, expected.data(), kCount, 0.7F, sums.data());
      for (const SimdLevel level : levels()) {
        std::vector<uint8_t> elements(expected.size());
        from_float32(type, level, from, kCount, elements.data());
        ASSERT_EQ(elements, expected);
        std::vector<float> level_sums(kCount, 1);
        add_elements(type, level, elements.data(), kCount, 0.7F, level_sums.data());
        // A sum's NaN may carry either operand's payload.
        for (size_t i = 0; i < kCount; ++i) {
          if (std::isnan(sums[i]) && std::isnan(level_sums[i])) continue;
          ASSERT_EQ(std::bit_cast<uint32_t>(level_sums[i]), std::bit_cast<uint32_t>(sums[i]));
        }
      }
    }
  }
}

TEST(ConvertTest, StochasticRoundingGoesToOneOfTheTwoNeighbours) {
  std::mt19937_64 random(6);
  for (const SimdLevel level : levels()) {
    std::vector<uint32_t> floats(1003);
    for (uint32_t& bits : floats) bits = static_cast<uint32_t>(random());
    floats[0] = 0x7F800000;
    floats[1] = 0xFFC00001;
    floats[2] = 0x80000000;
    std::vector<uint16_t> rounded(floats.size());
    to_bfloat16_stochastic(level, reinterpret_cast<const uint8_t*>(floats.data()), floats.size(),
                           {1, 2}, 100, reinterpret_cast<uint8_t*>(rounded.data()));
    for (size_t i = 0; i < floats.size(); ++i) {
      const float value = std::bit_cast<float>(floats[i]);
      if (std::isnan(value)) {
        EXPECT_TRUE(std::isnan(std::bit_cast<float>(uint32_t{rounded[i]} << 16)));
        continue;
      }
      const uint32_t low = floats[i] >> 16;
      EXPECT_TRUE(rounded[i] == low || ((floats[i] & 0xFFFF) != 0 && rounded[i] == low + 1)) << i;
    }
  }
}

}  // namespace
}  // namespace longhaul

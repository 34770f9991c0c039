#include "codec/bit_planes.h"

#include <gtest/gtest.h>

#include <cmath>

#include "codec/rank_coder.h"
#include "longhaul/base/strings.h"
#include "tests/codec/sample_data.h"

namespace longhaul {
namespace {

using namespace testing;  // longhaul::testing

size_t padded(size_t count) {
  return (count + kPlaneGroup - 1) / kPlaneGroup * kPlaneGroup;
}

// Whole numbers with a two-sided geometric look of the given mean magnitude, in 0..255 or
// -127..127.
std::vector<uint8_t> symbols_of(Symbols kind, size_t count, double mean, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::exponential_distribution<double> magnitude(mean > 0 ? 1 / mean : 1);
  std::vector<uint8_t> symbols(padded(count));
  for (size_t i = 0; i < count && mean > 0; ++i) {
    const int most = kind == Symbols::kSigned ? 127 : 255;
    const int m = static_cast<int>(std::min<double>(most, magnitude(random) + 0.5));
    const bool negative = kind == Symbols::kSigned && random() % 2 == 0;
    symbols[i] = static_cast<uint8_t>(negative ? -m : m);
  }
  return symbols;
}

std::vector<uint8_t> encode(SimdLevel level, Symbols kind, const std::vector<uint8_t>& symbols,
                            size_t count) {
  std::vector<uint8_t> coded(most_bit_plane_bytes(count) + kGuardBytes, 0xA5);
  const size_t written = encode_bit_planes(level, kind, symbols.data(), count, coded.data());
  EXPECT_LE(written, most_bit_plane_bytes(count));
  EXPECT_TRUE(std::all_of(coded.end() - kGuardBytes, coded.end(),
                          [](uint8_t byte) { return byte == 0xA5; }));
  coded.resize(written);
  return coded;
}

void expect_round_trip(Symbols kind, const std::vector<uint8_t>& symbols, size_t count) {
  const std::vector<uint8_t> reference = encode(SimdLevel::kScalar, kind, symbols, count);
  for (const SimdLevel level : levels()) {
    SCOPED_TRACE(str_cat(to_string(level), ", ", count));
    ASSERT_TRUE(encode(level, kind, symbols, count) == reference);
    std::vector<uint8_t> decoded(padded(count) + kGuardBytes, 0x5A);
    ASSERT_TRUE(decode_bit_planes(level, kind, reference, count, decoded.data()));
    ASSERT_TRUE(std::equal(symbols.begin(), symbols.end(), decoded.begin()));
    ASSERT_EQ(decoded[padded(count)], 0x5A);
  }
}

TEST(BitPlanesTest, EveryLevelWritesTheSameBytesAndReadsThemBack) {
  for (const Symbols kind : {Symbols::kUnsigned, Symbols::kSigned}) {
    for (const double mean : {0.0, 0.02, 0.3, 1.0, 1.6, 3.0, 8.0, 30.0, 90.0, 200.0}) {
      for (const size_t count : {1, 2, 63, 64, 65, 191, 192, 193, 255, 256, 257, 5000}) {
        SCOPED_TRACE(str_cat("mean ", mean));
        expect_round_trip(kind, symbols_of(kind, count, mean, count), count);
      }
    }
  }
}

TEST(BitPlanesTest, NoSymbolsAreNoBytes) {
  for (const SimdLevel level : levels()) {
    uint8_t none = 0;
    std::vector<uint8_t> coded(most_bit_plane_bytes(0));
    EXPECT_EQ(encode_bit_planes(level, Symbols::kSigned, &none, 0, coded.data()), 0U);
    EXPECT_TRUE(decode_bit_planes(level, Symbols::kSigned, {}, 0, &none));
    EXPECT_FALSE(decode_bit_planes(level, Symbols::kSigned, ByteSpan(coded).first(1), 0, &none));
  }
}

// A single large symbol among zeros, at any place: what the planes behind the unary ones are for.
TEST(BitPlanesTest, OneLargeSymbolAmongZerosComesBack) {
  for (const Symbols kind : {Symbols::kUnsigned, Symbols::kSigned}) {
    for (const size_t at : {0, 63, 64, 200, 255}) {
      for (const int value : {1, 8, 9, 10, 127, -1, -9, -127}) {
        std::vector<uint8_t> symbols(256);
        symbols[at] = static_cast<uint8_t>(value);
        expect_round_trip(kind, symbols, 256);
      }
    }
  }
}

TEST(BitPlanesTest, RandomSymbolsOfTheWholeRangeComeBack) {
  std::mt19937_64 random(5);
  std::vector<uint8_t> symbols(4096);
  for (uint8_t& symbol : symbols) symbol = static_cast<uint8_t>(random());
  expect_round_trip(Symbols::kUnsigned, symbols, symbols.size());
  for (uint8_t& symbol : symbols) symbol = symbol == 0x80 ? 0x7F : symbol;
  expect_round_trip(Symbols::kSigned, symbols, symbols.size());
}

TEST(BitPlanesTest, CostIsNearTheEntropy) {
  std::mt19937_64 random(9);
  constexpr size_t kCount = 64 * 1024;
  for (const double deviation : {0.3, 0.5, 1.0, 2.0, 4.0, 8.0, 30.0}) {
    std::normal_distribution<double> normal(0, deviation);
    std::vector<uint8_t> symbols(kCount);
    ByteCounts counts{};
    for (uint8_t& symbol : symbols) {
      symbol = static_cast<uint8_t>(std::clamp(std::nearbyint(normal(random)), -127.0, 127.0));
      if (counts[symbol] < 65535) ++counts[symbol];
    }
    const std::vector<uint8_t> coded = encode(best_simd_level(), Symbols::kSigned, symbols, kCount);
    const double bits = 8.0 * static_cast<double>(coded.size()) / kCount;
    const double least = deviation < 0.5 ? 1.0 : entropy_bits(counts);
    EXPECT_LT(bits, least + 0.4) << "deviation " << deviation;
  }
}

TEST(BitPlanesTest, CutChangedAndGarbledBytesAreRefusedOrDecodeInBounds) {
  std::mt19937_64 random(3);
  for (const Symbols kind : {Symbols::kUnsigned, Symbols::kSigned}) {
    for (const double mean : {0.1, 1.5, 20.0}) {
      constexpr size_t kCount = 1000;
      const std::vector<uint8_t> good =
          encode(SimdLevel::kScalar, kind, symbols_of(kind, kCount, mean, 1), kCount);
      for (int i = 0; i < 400; ++i) {
        std::vector<uint8_t> bad = good;
        if (i % 2 == 0) bad.resize(random() % bad.size());
        if (!bad.empty()) bad[random() % std::min<size_t>(bad.size(), 20)] ^= 1U << random() % 8;
        bad.shrink_to_fit();
        std::vector<uint8_t> reference(padded(kCount));
        const bool decodes =
            decode_bit_planes(SimdLevel::kScalar, kind, bad, kCount, reference.data());
        for (const SimdLevel level : levels()) {
          std::vector<uint8_t> decoded(padded(kCount));
          ASSERT_EQ(decode_bit_planes(level, kind, bad, kCount, decoded.data()), decodes);
          ASSERT_TRUE(!decodes || decoded == reference) << to_string(level);
        }
      }
    }
  }
}

TEST(RankCoderTest, AnyTableGivesAnyBytesBack) {
  std::mt19937_64 random(4);
  for (const size_t count : {1, 64, 100, 1000}) {
    for (int kinds : {1, 3, 20, 256}) {
      std::vector<uint8_t> plane(count);
      for (uint8_t& byte : plane) byte = static_cast<uint8_t>(100 + random() % kinds);
      // The table knows the first bytes only.
      ByteCounts counts{};
      for (size_t i = 0; i < std::min<size_t>(count, 10); ++i) ++counts[plane[i]];
      const RankTable table = make_rank_table(counts);
      std::vector<uint8_t> reference;
      for (const SimdLevel level : levels()) {
        RankCoder coder(count, level);
        std::vector<uint8_t> coded(most_bit_plane_bytes(count) + 256);
        coded.resize(coder.encode(table, plane, coded.data()));
        if (level == SimdLevel::kScalar) reference = coded;
        ASSERT_TRUE(coded == reference);
        std::vector<uint8_t> decoded(count);
        ASSERT_TRUE(coder.decode(coded, decoded));
        ASSERT_TRUE(decoded == plane);
        coded[0] = 0;
        EXPECT_FALSE(coder.decode(coded, decoded)) << "a table without a byte";
        coded[0] = 255;
        coded.resize(200);
        EXPECT_FALSE(coder.decode(coded, decoded)) << "a table that is cut";
      }
    }
  }
}

TEST(RankCoderTest, ATableThatNamesAByteTwiceIsRefused) {
  RankCoder coder(64, SimdLevel::kScalar);
  std::vector<uint8_t> plane(64, 7);
  const std::vector<uint8_t> coded = {2, 7, 7, 0};
  EXPECT_FALSE(coder.decode(coded, plane));
}

TEST(RankCoderTest, TheCommonestByteIsFirstAndNeighboursFollow) {
  ByteCounts counts{};
  counts[120] = 5;
  counts[118] = 9;
  const RankTable table = make_rank_table(counts);
  EXPECT_EQ(table.listed, 2U);
  EXPECT_EQ(table.by_rank[0], 118);
  EXPECT_EQ(table.by_rank[1], 120);
  EXPECT_EQ(table.by_rank[2], 117);
  EXPECT_EQ(table.by_rank[3], 119);
  EXPECT_FLOAT_EQ(rank_coded_bits(counts, table), (9 * 1 + 5 * 2) / 14.0F);
}

}  // namespace
}  // namespace longhaul

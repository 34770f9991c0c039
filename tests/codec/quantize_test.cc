// Blocks of the lossy codecs: what becomes of special numbers, and that rounding is what it says.
#include "codec/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "longhaul/base/strings.h"
#include "tests/codec/sample_data.h"

namespace longhaul {
namespace {

using namespace testing;  // longhaul::testing

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kMax = std::numeric_limits<float>::max();
constexpr float kTiny = 1e-40F;  // a denormal

std::vector<CodecSpec> block_codecs() {
  std::vector<CodecSpec> specs;
  for (const CodecSpec& spec : all_specs()) {
    if (spec.block > 0) specs.push_back(spec);
  }
  return specs;
}

std::vector<float> through(const CodecSpec& spec, const std::vector<float>& values,
                           const EncodeContext& context = {}) {
  const std::unique_ptr<Codec> codec = make_codec(spec);
  const ByteSpan bytes(reinterpret_cast<const uint8_t*>(values.data()), values.size() * 4);
  const std::vector<uint8_t> payload = encode_all(*codec, ElementType::kFloat32, bytes, context);
  std::vector<float> decoded(values.size());
  const Result<void> done =
      codec->decode(ElementType::kFloat32, payload,
                    {reinterpret_cast<uint8_t*>(decoded.data()), decoded.size() * 4});
  EXPECT_TRUE(done) << done.failure().message;
  return decoded;
}

std::vector<float> normal_values(size_t count, float deviation, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(QuantizeTest, NanAndInfComeThroughWithTheirBlockAndTheOtherBlocksAreCoded) {
  for (const CodecSpec& spec : block_codecs()) {
    for (const float special : {kNan, -kNan, kInf, -kInf}) {
      std::vector<float> values = normal_values(3 * spec.block, 1e-3F);
      const size_t at = spec.block + spec.block / 3;
      values[at] = special;
      const std::vector<float> decoded = through(spec, values);
      const auto block = [&](const std::vector<float>& of, size_t index) {
        return std::vector<float>(of.begin() + static_cast<ptrdiff_t>(index * spec.block),
                                  of.begin() + static_cast<ptrdiff_t>((index + 1) * spec.block));
      };
      EXPECT_TRUE(same_bits(block(decoded, 1), block(values, 1))) << spec.str();
      EXPECT_FALSE(same_bits(block(decoded, 0), block(values, 0))) << spec.str();
      EXPECT_FALSE(same_bits(block(decoded, 2), block(values, 2))) << spec.str();
    }
  }
}

TEST(QuantizeTest, HugeNumbersTravelRawAndNeverOverflow) {
  for (const CodecSpec& spec : block_codecs()) {
    std::vector<float> values(spec.block, 1.0F);
    values[5] = kMax;
    EXPECT_TRUE(same_bits(through(spec, values), values)) << spec.str();
    for (const float large : {1e15F, 1e18F, 1e20F, 0x1p126F}) {
      const std::vector<float> big(spec.block, large);
      for (const float value : through(spec, big)) {
        EXPECT_NEAR(value / large, 1, spec.step > 0 ? spec.step : 0.01) << spec.str();
      }
    }
  }
}

// No step is below 2^-126: what is smaller than half of that becomes 0.
TEST(QuantizeTest, DenormalsBecomeZeroOrTheSmallestStep) {
  for (const CodecSpec& spec : block_codecs()) {
    if (spec.rounding == CodecSpec::Rounding::kStochastic) continue;
    for (const float value : through(spec, std::vector<float>(spec.block, kTiny))) {
      EXPECT_EQ(value, 0) << spec.str();
    }
    for (const float value : through(spec, std::vector<float>(spec.block, 0x1p-126F))) {
      EXPECT_EQ(value, 0x1p-126F) << spec.str();
    }
  }
}

// Numbers whose squares are 0 in fp32 still have a largest magnitude to stand on.
TEST(QuantizeTest, TinyNumbersKeepTheirSize) {
  for (const CodecSpec& spec : block_codecs()) {
    for (const float value : through(spec, std::vector<float>(spec.block, 1e-30F))) {
      EXPECT_NEAR(value / 1e-30F, 1, 0.01) << spec.str();
    }
  }
}

TEST(QuantizeTest, ZerosOfBothSignsBecomePlusZero) {
  for (const CodecSpec& spec : block_codecs()) {
    std::vector<float> values(2 * spec.block, 0.0F);
    for (size_t i = 0; i < spec.block; ++i) values[i] = -0.0F;
    values[2 * spec.block - 1] = 1;
    values[2 * spec.block - 2] = -0.0F;
    const std::vector<float> decoded = through(spec, values);
    for (size_t i = 0; i + 1 < decoded.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]), 0U) << spec.str() << " " << i;
    }
  }
}

// Its RMS is its magnitude.
TEST(QuantizeTest, OneElementComesThroughWithinHalfAStep) {
  for (const CodecSpec& spec : block_codecs()) {
    if (spec.rounding == CodecSpec::Rounding::kStochastic) continue;
    for (const float value : {1.0F, -3.7F, 1e-20F, 1e17F}) {
      EXPECT_NEAR(through(spec, {value})[0] / value, 1, std::max(spec.step, 1.0F / 127) / 2 * 1.01F)
          << spec.str();
    }
    EXPECT_TRUE(std::isnan(through(spec, {kNan})[0])) << spec.str();
    EXPECT_EQ(through(spec, {0.0F})[0], 0.0F) << spec.str();
  }
}

TEST(QuantizeTest, AllZerosAreAlmostNothing) {
  for (const CodecSpec& spec : block_codecs()) {
    const std::unique_ptr<Codec> codec = make_codec(spec);
    const std::vector<uint8_t> zeros(4 * 1'000'000);
    EXPECT_LT(encode_all(*codec, ElementType::kFloat32, zeros).size(), 4'000'000 / 100)
        << spec.str();
  }
}

TEST(QuantizeTest, ErrorsStayWithinHalfAStepOfTheBlock) {
  for (const CodecSpec& spec : block_codecs()) {
    if (spec.rounding == CodecSpec::Rounding::kStochastic) continue;
    std::vector<float> values = normal_values(10 * spec.block + 17, 1);
    values[3] = 60;  // an outlier widens its block's step to 60 / 127 at most
    const std::vector<float> decoded = through(spec, values);
    for (size_t at = 0; at < values.size(); at += spec.block) {
      const size_t end = std::min(values.size(), at + spec.block);
      float squares = 0;
      float largest = 0;
      for (size_t i = at; i < end; ++i) {
        squares += values[i] * values[i];
        largest = std::max(largest, std::abs(values[i]));
      }
      const float rms = std::sqrt(squares / static_cast<float>(end - at));
      const float step = std::max(spec.step * rms, largest / 127) * 1.01F;
      for (size_t i = at; i < end; ++i) {
        ASSERT_LE(std::abs(decoded[i] - values[i]), step / 2) << spec.str() << " " << i;
      }
    }
  }
}

TEST(QuantizeTest, StochasticRoundingIsRightInTheMean) {
  for (const char* text :
       {"int8:rounding=stochastic", "rms:step=1,rounding=stochastic", "bf16:rounding=stochastic"}) {
    const CodecSpec spec = *CodecSpec::parse(text);
    const std::vector<float> values = normal_values(4096, 1);
    std::vector<double> sums(values.size());
    std::vector<double> squares(values.size());
    std::vector<bool> both(values.size());  // was rounded up and down
    const std::vector<float> start = through(spec, values);
    constexpr int kRounds = 400;
    for (int round = 0; round < kRounds; ++round) {
      const std::vector<float> decoded =
          through(spec, values, {.step = static_cast<uint64_t>(round)});
      for (size_t i = 0; i < values.size(); ++i) {
        sums[i] += decoded[i] - values[i];
        squares[i] += std::pow(decoded[i] - values[i], 2);
        if (decoded[i] != start[i]) both[i] = true;
      }
    }
    // Sums of independent rounds, in units of their deviation: all within 6, 1 in the mean.
    double mean_square = 0;
    size_t rounded = 0;
    for (size_t i = 0; i < sums.size(); ++i) {
      if (!both[i]) continue;
      const double deviations = sums[i] / std::sqrt(squares[i]);
      EXPECT_LT(std::abs(deviations), 6) << text << " " << i;
      mean_square += deviations * deviations;
      ++rounded;
    }
    EXPECT_GT(rounded, sums.size() / 2) << text;
    EXPECT_NEAR(mean_square / static_cast<double>(rounded), 1, 0.15) << text;
  }
}

TEST(QuantizeTest, StochasticRoundingIsRepeatableAndKeyedByAllOfItsContext) {
  const CodecSpec spec = *CodecSpec::parse("rms:step=1,rounding=stochastic");
  const std::vector<float> values = normal_values(1024, 1);
  const EncodeContext base{.step = 5, .bucket = 2, .rank = 1, .first_element = 4096};
  const std::vector<float> decoded = through(spec, values, base);
  EXPECT_TRUE(same_bits(through(spec, values, base), decoded));
  for (EncodeContext other :
       {EncodeContext{.step = 6, .bucket = 2, .rank = 1, .first_element = 4096},
        EncodeContext{.step = 5, .bucket = 3, .rank = 1, .first_element = 4096},
        EncodeContext{.step = 5, .bucket = 2, .rank = 2, .first_element = 4096},
        EncodeContext{.step = 5, .bucket = 2, .rank = 1, .first_element = 0}}) {
    EXPECT_FALSE(same_bits(through(spec, values, other), decoded));
  }
}

// Chunks of a bucket that start at whole blocks round like the bucket.
TEST(QuantizeTest, StochasticRoundingDoesNotDependOnWhereABucketIsCut) {
  const CodecSpec spec = *CodecSpec::parse("rms:step=1,rounding=stochastic");
  const std::vector<float> values = normal_values(50 * 1024, 1);
  const std::vector<float> whole = through(spec, values);
  const size_t cut = 256 * 77;
  const auto middle = static_cast<ptrdiff_t>(cut);
  std::vector<float> parts = through(spec, {values.begin(), values.begin() + middle});
  const std::vector<float> rest =
      through(spec, {values.begin() + middle, values.end()}, {.first_element = cut});
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_TRUE(same_bits(parts, whole));
}

TEST(QuantizeTest, EveryLevelGivesTheSameCodesForRandomBits) {
  std::mt19937_64 random(8);
  for (int round = 0; round < 300; ++round) {
    QuantizeRule rule;
    rule.rms = random() % 2 == 0;
    rule.step = static_cast<float>(random() % 100 + 1) / 16;
    rule.block = 64U << random() % 7;
    rule.largest_bits = std::bit_cast<uint32_t>(0x1p126F);
    rule.stochastic = random() % 2 == 0;
    rule.key = {static_cast<uint32_t>(random()), static_cast<uint32_t>(random())};
    const size_t count = 1 + random() % 9000;
    const auto first = static_cast<uint32_t>(random());
    const DataKind kind = kAllDataKinds[random() % std::size(kAllDataKinds)];
    const std::vector<uint8_t> elements =
        make_elements(kind, ElementType::kFloat32, count, random());
    std::vector<int8_t> expected(padded_codes(count), 99);
    std::vector<uint16_t> expected_steps(count / rule.block + 1);
    quantize(SimdLevel::kScalar, rule, elements.data(), count, first, expected.data(),
             expected_steps.data());
    for (const SimdLevel level : levels()) {
      std::vector<int8_t> codes(padded_codes(count), 77);
      std::vector<uint16_t> steps(count / rule.block + 1);
      quantize(level, rule, elements.data(), count, first, codes.data(), steps.data());
      ASSERT_EQ(steps, expected_steps) << to_string(level) << " " << to_string(kind);
      ASSERT_EQ(codes, expected) << to_string(level) << " " << to_string(kind);
    }
  }
}

}  // namespace
}  // namespace longhaul

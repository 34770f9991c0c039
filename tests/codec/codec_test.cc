// What holds for every codec: round trips, sizes, equal bytes on every instruction set.
#include "longhaul/codec/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/check.h"
#include "codec/convert.h"
#include "codec/make_codec.h"
#include "tests/codec/sample_data.h"

namespace longhaul {
namespace {

using namespace testing;  // longhaul::testing

constexpr size_t kSmallSizes[] = {0,   1,   2,    3,    7,     63,    64,    255,
                                  256, 257, 1023, 4099, 16384, 16385, 65535, 65537};

std::string trace(const CodecSpec& spec, ElementType type, DataKind kind, size_t count) {
  return str_cat(spec.str(), ", ", to_string(type), ", ", to_string(kind), ", ", count);
}

bool takes(const CodecSpec& spec, ElementType type) {
  return check_supports(spec, type).ok();
}

std::vector<uint8_t> decode_all(Codec& codec, ElementType type, ByteSpan payload, size_t count) {
  std::vector<uint8_t> decoded(count * element_bytes(type), 0xEE);
  const Result<void> result = codec.decode(type, payload, decoded);
  EXPECT_TRUE(result) << result.failure().message;
  return decoded;
}

std::vector<float> as_floats(ElementType type, const std::vector<uint8_t>& elements) {
  std::vector<float> floats(elements.size() / element_bytes(type));
  to_float32(type, SimdLevel::kScalar, elements.data(), floats.size(),
             reinterpret_cast<uint8_t*>(floats.data()));
  return floats;
}

// |decoded - original| / |original| over all elements.
double relative_error(const CodecSpec& spec, ElementType type, DataKind kind, size_t count) {
  const std::unique_ptr<Codec> codec = make_codec(spec);
  const std::vector<uint8_t> elements = make_elements(kind, type, count);
  const std::vector<uint8_t> decoded =
      decode_all(*codec, type, encode_all(*codec, type, elements), count);
  const std::vector<float> before = as_floats(type, elements);
  const std::vector<float> after = as_floats(type, decoded);
  double off = 0;
  double all = 0;
  for (size_t i = 0; i < count; ++i) {
    off += std::pow(double{after[i]} - double{before[i]}, 2);
    all += std::pow(double{before[i]}, 2);
  }
  return std::sqrt(off / all);
}

TEST(CodecTest, ExactCodecsGiveEveryTypeSizeAndKindOfDataBackToTheBit) {
  for (const CodecSpec& spec : all_specs()) {
    if (!spec.lossless()) continue;
    const std::unique_ptr<Codec> codec = make_codec(spec);
    for (const ElementType type : kAllElementTypes) {
      for (const DataKind kind : kAllDataKinds) {
        for (const size_t count : kSmallSizes) {
          SCOPED_TRACE(trace(spec, type, kind, count));
          const std::vector<uint8_t> elements = make_elements(kind, type, count);
          const std::vector<uint8_t> payload = encode_all(*codec, type, elements);
          EXPECT_TRUE(decode_all(*codec, type, payload, count) == elements);
        }
      }
    }
  }
}

TEST(CodecTest, LargeOddSizesComeBackToTheBit) {
  for (const auto kind : {CodecSpec::Kind::kZstd, CodecSpec::Kind::kLossless}) {
    const std::unique_ptr<Codec> codec = make_codec(CodecSpec::of(kind));
    for (const ElementType type : kAllElementTypes) {
      for (const DataKind data :
           {DataKind::kGradient, DataKind::kRandomBits, DataKind::kSparseRows}) {
        const std::vector<uint8_t> elements = make_elements(data, type, 300'007);
        const std::vector<uint8_t> payload = encode_all(*codec, type, elements);
        EXPECT_TRUE(decode_all(*codec, type, payload, 300'007) == elements);
      }
    }
  }
}

// The reference is the scalar code; every codec, stage, type, kind of data and size.
TEST(CodecTest, EveryInstructionSetWritesTheSameBytesAndReadsThemToTheSameBits) {
  const EncodeContext context{.step = 77, .bucket = 3, .rank = 2, .first_element = 0xFFFFFF00};
  for (const CodecSpec& spec : all_specs()) {
    const std::unique_ptr<Codec> reference = make_codec(spec, SimdLevel::kScalar);
    for (const ElementType type : kAllElementTypes) {
      if (!takes(spec, type)) continue;
      for (const DataKind kind : kAllDataKinds) {
        for (const size_t count : {1, 63, 65, 300, 5000, 20'011}) {
          const size_t n = static_cast<size_t>(count);
          SCOPED_TRACE(trace(spec, type, kind, n));
          const std::vector<uint8_t> elements = make_elements(kind, type, n);
          const std::vector<uint8_t> payload = encode_all(*reference, type, elements, context);
          const std::vector<uint8_t> decoded = decode_all(*reference, type, payload, n);
          std::vector<float> sums(n, 0.25F);
          ASSERT_TRUE(reference->decode_add(type, payload, sums, 0.3F));
          for (const SimdLevel level : levels()) {
            SCOPED_TRACE(to_string(level));
            const std::unique_ptr<Codec> codec = make_codec(spec, level);
            ASSERT_TRUE(encode_all(*codec, type, elements, context) == payload);
            ASSERT_TRUE(decode_all(*codec, type, payload, n) == decoded);
            std::vector<float> level_sums(n, 0.25F);
            ASSERT_TRUE(codec->decode_add(type, payload, level_sums, 0.3F));
            ASSERT_EQ(0, std::memcmp(level_sums.data(), sums.data(), n * sizeof(float)));
          }
        }
      }
    }
  }
}

// A codec per level goes through 10,000 steps of one training, so to speak.
TEST(CodecTest, TenThousandStepsOfRandomSizesAndTypesAreTheSameOnEveryInstructionSet) {
  const std::vector<CodecSpec> specs = all_specs();
  std::vector<std::vector<std::unique_ptr<Codec>>> codecs(specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    for (const SimdLevel level : levels()) codecs[i].push_back(make_codec(specs[i], level));
  }
  std::mt19937_64 random(20);
  for (uint64_t step = 0; step < 10'000; ++step) {
    const size_t which = random() % specs.size();
    const ElementType type = kAllElementTypes[random() % 4];
    if (!takes(specs[which], type)) continue;
    const DataKind kind = kAllDataKinds[random() % std::size(kAllDataKinds)];
    const size_t count = random() % 1500;
    SCOPED_TRACE(str_cat("step ", step, ": ", trace(specs[which], type, kind, count)));
    const std::vector<uint8_t> elements = make_elements(kind, type, count, step);
    const EncodeContext context{.step = step, .bucket = static_cast<uint32_t>(random() % 9)};
    std::vector<uint8_t> payload;
    std::vector<uint8_t> decoded;
    for (const std::unique_ptr<Codec>& codec : codecs[which]) {
      const std::vector<uint8_t> own = encode_all(*codec, type, elements, context);
      if (payload.empty()) payload = own;
      ASSERT_TRUE(own == payload);
      const std::vector<uint8_t> back = decode_all(*codec, type, payload, count);
      if (decoded.empty()) decoded = back;
      ASSERT_TRUE(back == decoded);
    }
  }
}

TEST(CodecTest, DecodeAddIsDecodeThenAdd) {
  constexpr size_t kCount = 20'011;
  for (const CodecSpec& spec : all_specs()) {
    const std::unique_ptr<Codec> codec = make_codec(spec);
    for (const DataKind kind : {DataKind::kGradient, DataKind::kSparseRows}) {
      const std::vector<uint8_t> elements = make_elements(kind, ElementType::kFloat32, kCount);
      const std::vector<uint8_t> payload = encode_all(*codec, ElementType::kFloat32, elements);
      const std::vector<float> values = as_floats(
          ElementType::kFloat32, decode_all(*codec, ElementType::kFloat32, payload, kCount));
      std::vector<float> sums(kCount);
      for (size_t i = 0; i < kCount; ++i) sums[i] = static_cast<float>(i) * 1e-4F;
      std::vector<float> expected = sums;
      for (size_t i = 0; i < kCount; ++i) {
        const float product = values[i] * 0.125F;
        expected[i] = expected[i] + product;
      }
      ASSERT_TRUE(codec->decode_add(ElementType::kFloat32, payload, sums, 0.125F));
      EXPECT_TRUE(sums == expected) << spec.str() << ", " << to_string(kind);
    }
  }
}

TEST(CodecTest, ErrorsAreThoseOfTheTable) {
  struct Row {
    const char* spec;
    double most;
  };
  for (const ElementType type : {ElementType::kFloat32, ElementType::kFloat64}) {
    for (const Row& row :
         {Row{"bf16", 0.0017}, Row{"bf16:stage=rice", 0.0017},
          Row{"bf16:rounding=stochastic", 0.0033}, Row{"fp16", 0.0005}, Row{"int8", 0.012},
          Row{"int8:stage=rice", 0.012}, Row{"int8:stage=huffman,block=64", 0.008},
          Row{"int8:rounding=stochastic", 0.022}, Row{"rms:step=0.0625", 0.019},
          Row{"rms:step=0.25", 0.073}, Row{"rms", 0.147}, Row{"rms:stage=huffman", 0.147},
          Row{"rms:step=1", 0.29}, Row{"rms:step=2", 0.6}}) {
      const CodecSpec spec = *CodecSpec::parse(row.spec);
      const double error = relative_error(spec, type, DataKind::kGradient, 100'003);
      EXPECT_LT(error, row.most) << row.spec;
      EXPECT_GT(error, row.most / 3) << row.spec << ": too good to be what it says";
    }
  }
}

TEST(CodecTest, TwoByteElementsGoThroughBlocksToo) {
  for (const ElementType type : {ElementType::kBFloat16, ElementType::kFloat16}) {
    EXPECT_LT(
        relative_error(CodecSpec::of(CodecSpec::Kind::kInt8), type, DataKind::kGradient, 50'001),
        0.012);
    EXPECT_LT(
        relative_error(CodecSpec::of(CodecSpec::Kind::kRms), type, DataKind::kGradient, 50'001),
        0.147);
  }
}

double ratio(const CodecSpec& spec, ElementType type, DataKind kind) {
  const std::unique_ptr<Codec> codec = make_codec(spec);
  const std::vector<uint8_t> elements = make_elements(kind, type, 300'000);
  return static_cast<double>(elements.size()) /
         static_cast<double>(encode_all(*codec, type, elements).size());
}

TEST(CodecTest, RatiosAreThoseOfTheTable) {
  struct Row {
    const char* spec;
    double least;
  };
  for (const Row& row :
       {Row{"bf16", 1.99}, Row{"bf16:stage=rice", 2.7}, Row{"bf16:stage=huffman", 2.7},
        Row{"int8", 3.99}, Row{"int8:stage=rice", 4.1}, Row{"int8:stage=huffman", 4.2},
        Row{"rms:step=0.25", 7.2}, Row{"rms", 9.1}, Row{"rms:stage=huffman", 9.3},
        Row{"rms:step=1", 12.5}, Row{"rms:step=2", 18}, Row{"zstd", 1.15}, Row{"lossless", 1.15}}) {
    EXPECT_GT(ratio(*CodecSpec::parse(row.spec), ElementType::kFloat32, DataKind::kGradient),
              row.least)
        << row.spec;
  }
}

TEST(CodecTest, ExactCodecsSaveWhereThereIsSomethingToSave) {
  for (const auto kind : {CodecSpec::Kind::kZstd, CodecSpec::Kind::kLossless}) {
    const CodecSpec spec = CodecSpec::of(kind);
    EXPECT_GT(ratio(spec, ElementType::kFloat32, DataKind::kGradient), 1.15);
    EXPECT_GT(ratio(spec, ElementType::kBFloat16, DataKind::kGradient), 1.37);
    EXPECT_GT(ratio(spec, ElementType::kFloat16, DataKind::kGradient), 1.1);
    EXPECT_GT(ratio(spec, ElementType::kFloat64, DataKind::kGradient), 1.12);
    EXPECT_GT(ratio(spec, ElementType::kFloat32, DataKind::kTrueBf16), 2.4);
    for (const ElementType type : kAllElementTypes) {
      EXPECT_GT(ratio(spec, type, DataKind::kZeros), 900) << to_string(type);
      EXPECT_GT(ratio(spec, type, DataKind::kConstant), 900) << to_string(type);
      EXPECT_GT(ratio(spec, type, DataKind::kSparseRows), 4) << to_string(type);
    }
  }
}

TEST(CodecTest, APayloadIsNeverMuchLargerThanItsElements) {
  for (const CodecSpec& spec : all_specs()) {
    const std::unique_ptr<Codec> codec = make_codec(spec);
    for (const ElementType type : kAllElementTypes) {
      for (const size_t count : {0, 1, 2, 3, 7, 100, 65536, 65537, 1'000'003, 250'000'000}) {
        const size_t raw = count * element_bytes(type);
        EXPECT_LE(codec->max_payload_bytes(type, count), raw + raw / 500 + 64)
            << spec.str() << " " << to_string(type) << " " << count;
      }
      if (!takes(spec, type)) continue;
      const std::vector<uint8_t> noise = make_elements(DataKind::kRandomBits, type, 40'001);
      EXPECT_LE(encode_all(*codec, type, noise).size(), codec->max_payload_bytes(type, 40'001));
    }
  }
}

// encode() may use the whole of the payload's room, and not a byte behind it.
TEST(CodecTest, TheRoomThatWasPromisedIsEnough) {
  for (const CodecSpec& spec : all_specs()) {
    const std::unique_ptr<Codec> codec = make_codec(spec);
    for (const DataKind kind : kAllDataKinds) {
      for (const size_t count : {0, 1, 100, 70'000}) {
        const std::vector<uint8_t> elements = make_elements(kind, ElementType::kFloat32, count);
        const size_t room = codec->max_payload_bytes(ElementType::kFloat32, count);
        std::vector<uint8_t> payload(room + kGuardBytes, 0xA5);
        const size_t written = codec->encode(ElementType::kFloat32, elements,
                                             MutableByteSpan(payload).first(room), {});
        EXPECT_LE(written, room);
        EXPECT_TRUE(std::all_of(payload.begin() + static_cast<ptrdiff_t>(room), payload.end(),
                                [](uint8_t byte) { return byte == 0xA5; }))
            << trace(spec, ElementType::kFloat32, kind, count);
      }
    }
  }
}

TEST(CodecTest, ElementsAndPayloadsMayLieAtAnyAddress) {
  for (const CodecSpec& spec : all_specs()) {
    const std::unique_ptr<Codec> codec = make_codec(spec);
    for (const ElementType type : kAllElementTypes) {
      if (!takes(spec, type)) continue;
      const std::vector<uint8_t> elements = make_elements(DataKind::kGradient, type, 3001);
      const std::vector<uint8_t> payload = encode_all(*codec, type, elements);
      std::vector<uint8_t> shifted_elements(elements.size() + 1);
      std::copy(elements.begin(), elements.end(), shifted_elements.begin() + 1);
      std::vector<uint8_t> shifted(codec->max_payload_bytes(type, 3001) + 1);
      const size_t written = codec->encode(type, ByteSpan(shifted_elements).subspan(1),
                                           MutableByteSpan(shifted).subspan(1), {});
      ASSERT_EQ(written, payload.size());
      EXPECT_TRUE(std::equal(payload.begin(), payload.end(), shifted.begin() + 1));
      ASSERT_TRUE(codec->decode(type, ByteSpan(shifted).subspan(1, written),
                                MutableByteSpan(shifted_elements).subspan(1)));
      EXPECT_TRUE(std::equal(shifted_elements.begin() + 1, shifted_elements.end(),
                             decode_all(*codec, type, payload, 3001).begin()));
    }
  }
}

TEST(CodecTest, ACodecKeepsNoMemoryOfWhatItCodedBefore) {
  for (const CodecSpec& spec : all_specs()) {
    const std::unique_ptr<Codec> used = make_codec(spec);
    for (const DataKind kind : kAllDataKinds) {
      for (const ElementType type : kAllElementTypes) {
        if (!takes(spec, type)) continue;
        const std::vector<uint8_t> elements = make_elements(kind, type, 5000);
        const std::unique_ptr<Codec> fresh = make_codec(spec);
        const std::vector<uint8_t> payload = encode_all(*used, type, elements);
        EXPECT_EQ(payload, encode_all(*fresh, type, elements));
        EXPECT_EQ(decode_all(*used, type, payload, 5000), decode_all(*fresh, type, payload, 5000));
      }
    }
  }
}

TEST(CodecTest, APayloadForAnotherSizeIsRefusedByEveryCodec) {
  for (const CodecSpec& spec : all_specs()) {
    const std::unique_ptr<Codec> codec = make_codec(spec);
    const std::vector<uint8_t> elements =
        make_elements(DataKind::kGradient, ElementType::kFloat32, 500);
    const std::vector<uint8_t> payload = encode_all(*codec, ElementType::kFloat32, elements);
    for (const size_t count : {0, 1, 499, 501, 1000}) {
      std::vector<uint8_t> decoded(count * 4);
      const Result<void> result = codec->decode(ElementType::kFloat32, payload, decoded);
      ASSERT_FALSE(result) << spec.str() << " " << count;
      EXPECT_EQ(result.failure().kind, ErrorKind::kCorrupt);
      std::vector<float> sums(count);
      EXPECT_FALSE(codec->decode_add(ElementType::kFloat32, payload, sums, 1));
    }
  }
}

TEST(CodecTest, APayloadOfAnotherTypeIsRefusedAndBothAreNamed) {
  const std::unique_ptr<Codec> codec = make_codec(CodecSpec::of(CodecSpec::Kind::kZstd));
  const std::vector<uint8_t> elements =
      make_elements(DataKind::kGradient, ElementType::kFloat16, 500);
  const std::vector<uint8_t> payload = encode_all(*codec, ElementType::kFloat16, elements);
  std::vector<uint8_t> decoded(elements.size());
  const Result<void> result = codec->decode(ElementType::kBFloat16, payload, decoded);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.failure().message,
              ::testing::HasSubstr("made of 500 x fp16, expected 500 x bf16"));
}

TEST(CodecTest, APayloadOfAnotherCodecOrBlockIsRefusedAndBothAreNamed) {
  const std::unique_ptr<Codec> rms = make_codec(*CodecSpec::parse("rms"));
  const std::vector<uint8_t> payload = encode_all(
      *rms, ElementType::kFloat32, make_elements(DataKind::kGradient, ElementType::kFloat32, 500));
  std::vector<uint8_t> decoded(2000);
  const auto refusal = [&](const char* spec) {
    const Result<void> result =
        make_codec(*CodecSpec::parse(spec))->decode(ElementType::kFloat32, payload, decoded);
    return result ? "accepted" : result.failure().message;
  };
  EXPECT_THAT(refusal("int8:block=256"), ::testing::HasSubstr("codec rms, expected int8"));
  EXPECT_THAT(refusal("rms:block=512"), ::testing::HasSubstr("blocks of 256, expected"));
  // Step and stage are the encoder's business.
  EXPECT_EQ(refusal("rms:step=2,stage=huffman"), "accepted");
}

TEST(CodecTest, ACodecThatCannotCarryATypeSaysSo) {
  const Result<void> refused = check_supports(*CodecSpec::parse("bf16"), ElementType::kFloat16);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.failure().kind, ErrorKind::kInvalid);
  EXPECT_THAT(
      refused.failure().message,
      ::testing::HasSubstr("bf16 cannot carry fp16 elements (it takes fp32, fp64 and bf16)"));
  EXPECT_FALSE(check_supports(*CodecSpec::parse("fp16"), ElementType::kBFloat16));
  for (const char* text : {"none", "zstd", "lossless", "int8", "rms"}) {
    for (const ElementType type : kAllElementTypes) {
      EXPECT_TRUE(check_supports(*CodecSpec::parse(text), type)) << text;
    }
  }
}

TEST(CodecTest, HalfAnElementOrTooLittleRoomIsABug) {
  for (const CodecSpec& spec : all_specs()) {
    const std::unique_ptr<Codec> codec = make_codec(spec);
    std::vector<uint8_t> elements(7);
    std::vector<uint8_t> payload(100);
    EXPECT_THROW(codec->encode(ElementType::kFloat32, elements, payload, {}), BugError);
    EXPECT_THROW(codec->encode(ElementType::kFloat32, ByteSpan(elements).first(4),
                               MutableByteSpan(payload).first(3), {}),
                 BugError);
  }
}

}  // namespace
}  // namespace longhaul

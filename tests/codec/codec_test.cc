#include "longhaul/codec/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "codec/zstd_codec.h"
#include "longhaul/base/check.h"
#include "tests/codec/sample_data.h"

namespace longhaul {
namespace {

using namespace testing;  // longhaul::testing

constexpr size_t kSmallSizes[] = {0,   1,   2,    3,    7,     63,    64,   255,
                                  256, 257, 1023, 4099, 65535, 65536, 65537};

void expect_round_trip(Codec& codec, ElementType type, DataKind kind, size_t count) {
  SCOPED_TRACE(
      str_cat(codec.spec().str(), ", ", to_string(type), ", ", to_string(kind), ", ", count));
  const std::vector<uint8_t> elements = make_elements(kind, type, count);
  const std::vector<uint8_t> payload = encode_all(codec, type, elements);
  EXPECT_LE(payload.size(), codec.max_payload_bytes(type, count));
  std::vector<uint8_t> decoded(elements.size(), 0xEE);
  const Result<void> result = codec.decode(type, payload, decoded);
  ASSERT_TRUE(result) << result.failure().message;
  EXPECT_TRUE(decoded == elements);
}

TEST(CodecTest, EveryCodecTypeSizeAndKindOfDataComesBackToTheBit) {
  for (const std::string& name : CodecSpec::names()) {
    const std::unique_ptr<Codec> codec = make_codec(*CodecSpec::parse(name));
    for (const ElementType type : kAllElementTypes) {
      for (const DataKind kind : kAllDataKinds) {
        for (const size_t count : kSmallSizes) expect_round_trip(*codec, type, kind, count);
      }
    }
  }
}

TEST(CodecTest, LargeOddSizesComeBackToTheBit) {
  const std::unique_ptr<Codec> codec = make_codec({CodecSpec::Kind::kZstd});
  for (const ElementType type : kAllElementTypes) {
    for (const DataKind kind :
         {DataKind::kGradient, DataKind::kRandomBits, DataKind::kSparseRows}) {
      expect_round_trip(*codec, type, kind, 1'000'003);
    }
  }
}

TEST(CodecTest, APayloadIsNeverMuchLargerThanItsElements) {
  for (const std::string& name : CodecSpec::names()) {
    const std::unique_ptr<Codec> codec = make_codec(*CodecSpec::parse(name));
    for (const ElementType type : kAllElementTypes) {
      for (const size_t count : {0, 1, 2, 3, 7, 100, 65536, 65537, 1'000'003, 250'000'000}) {
        const size_t raw = count * element_bytes(type);
        EXPECT_LE(codec->max_payload_bytes(type, count), raw + raw / 500 + 64)
            << name << " " << to_string(type) << " " << count;
      }
    }
  }
}

double ratio(Codec& codec, ElementType type, DataKind kind) {
  const std::vector<uint8_t> elements = make_elements(kind, type, 300'000);
  return static_cast<double>(elements.size()) /
         static_cast<double>(encode_all(codec, type, elements).size());
}

TEST(CodecTest, ZstdSavesWhereThereIsSomethingToSave) {
  const std::unique_ptr<Codec> zstd = make_codec({CodecSpec::Kind::kZstd});
  EXPECT_GT(ratio(*zstd, ElementType::kFloat32, DataKind::kGradient), 1.15);
  EXPECT_GT(ratio(*zstd, ElementType::kBFloat16, DataKind::kGradient), 1.38);
  EXPECT_GT(ratio(*zstd, ElementType::kFloat16, DataKind::kGradient), 1.1);
  EXPECT_GT(ratio(*zstd, ElementType::kFloat64, DataKind::kGradient), 1.12);
  EXPECT_GT(ratio(*zstd, ElementType::kFloat32, DataKind::kTrueBf16), 2.5);
  for (const ElementType type : kAllElementTypes) {
    EXPECT_GT(ratio(*zstd, type, DataKind::kZeros), 1000) << to_string(type);
    EXPECT_GT(ratio(*zstd, type, DataKind::kConstant), 1000) << to_string(type);
    EXPECT_GT(ratio(*zstd, type, DataKind::kSparseRows), 4) << to_string(type);
  }
}

TEST(CodecTest, EveryInstructionSetWritesTheSameBytesAndReadsThem) {
  for (const ElementType type : kAllElementTypes) {
    for (const DataKind kind : kAllDataKinds) {
      const std::vector<uint8_t> elements = make_elements(kind, type, 70'001);
      ZstdCodec scalar(SimdLevel::kScalar);
      const std::vector<uint8_t> expected = encode_all(scalar, type, elements);
      for (const SimdLevel level : {SimdLevel::kAvx2, SimdLevel::kAvx512}) {
        if (level > best_simd_level()) continue;
        SCOPED_TRACE(
            str_cat(to_string(type), ", ", to_string(kind), ", ", static_cast<int>(level)));
        ZstdCodec codec(level);
        EXPECT_TRUE(encode_all(codec, type, elements) == expected);
        std::vector<uint8_t> decoded(elements.size());
        ASSERT_TRUE(codec.decode(type, expected, decoded));
        EXPECT_TRUE(decoded == elements);
      }
    }
  }
}

TEST(CodecTest, ACodecKeepsNoMemoryOfWhatItCodedBefore) {
  const std::unique_ptr<Codec> used = make_codec({CodecSpec::Kind::kZstd});
  for (const DataKind kind : kAllDataKinds) {
    for (const ElementType type : kAllElementTypes) {
      const std::vector<uint8_t> elements = make_elements(kind, type, 5000);
      const std::unique_ptr<Codec> fresh = make_codec({CodecSpec::Kind::kZstd});
      EXPECT_EQ(encode_all(*used, type, elements), encode_all(*fresh, type, elements));
    }
  }
}

TEST(CodecTest, APayloadForAnotherSizeIsRefusedByEveryCodec) {
  for (const std::string& name : CodecSpec::names()) {
    const std::unique_ptr<Codec> codec = make_codec(*CodecSpec::parse(name));
    const std::vector<uint8_t> elements =
        make_elements(DataKind::kGradient, ElementType::kFloat32, 500);
    const std::vector<uint8_t> payload = encode_all(*codec, ElementType::kFloat32, elements);
    for (const size_t count : {0, 1, 499, 501, 1000}) {
      std::vector<uint8_t> decoded(count * 4);
      const Result<void> result = codec->decode(ElementType::kFloat32, payload, decoded);
      ASSERT_FALSE(result) << name << " " << count;
      EXPECT_EQ(result.failure().kind, ErrorKind::kCorrupt);
    }
  }
}

TEST(CodecTest, ZstdRefusesAPayloadOfAnotherTypeAndNamesBoth) {
  const std::unique_ptr<Codec> codec = make_codec({CodecSpec::Kind::kZstd});
  const std::vector<uint8_t> elements =
      make_elements(DataKind::kGradient, ElementType::kFloat16, 500);
  const std::vector<uint8_t> payload = encode_all(*codec, ElementType::kFloat16, elements);
  std::vector<uint8_t> decoded(elements.size());
  const Result<void> result = codec->decode(ElementType::kBFloat16, payload, decoded);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.failure().message,
              ::testing::HasSubstr("made of 500 x fp16, expected 500 x bf16"));
}

TEST(CodecTest, HalfAnElementOrTooLittleRoomIsABug) {
  for (const std::string& name : CodecSpec::names()) {
    const std::unique_ptr<Codec> codec = make_codec(*CodecSpec::parse(name));
    std::vector<uint8_t> elements(7);
    std::vector<uint8_t> payload(100);
    EXPECT_THROW(codec->encode(ElementType::kFloat32, elements, payload), BugError);
    EXPECT_THROW(codec->encode(ElementType::kFloat32, ByteSpan(elements).first(4),
                               MutableByteSpan(payload).first(3)),
                 BugError);
  }
}

}  // namespace
}  // namespace longhaul

// What a codec does with bytes that it did not write. The frame's checksum catches damage on the
// way; here nothing does, so decode() either refuses or gives other elements, but stays inside its
// spans (run under the asan preset, which sees every access) and never throws.
#include <gtest/gtest.h>

#include <cctype>

#include "longhaul/codec/codec.h"
#include "tests/codec/sample_data.h"

namespace longhaul {
namespace {

using namespace testing;

// Decodes from and into memory of exactly the right size, so that the sanitizer sees one byte too
// far.
bool decodes(Codec& codec, ElementType type, const std::vector<uint8_t>& payload, size_t count) {
  const size_t bytes = count * element_bytes(type);
  std::vector<uint8_t> exact_payload(payload);
  exact_payload.shrink_to_fit();
  std::vector<uint8_t> elements(bytes + kGuardBytes, 0xA5);
  const Result<void> result =
      codec.decode(type, exact_payload, MutableByteSpan(elements).first(bytes));
  EXPECT_TRUE(std::all_of(elements.begin() + static_cast<ptrdiff_t>(bytes), elements.end(),
                          [](uint8_t byte) { return byte == 0xA5; }));
  std::vector<float> sums(count);
  EXPECT_EQ(codec.decode_add(type, exact_payload, sums, 1).ok(), result.ok());
  if (!result) {
    EXPECT_EQ(result.failure().kind, ErrorKind::kCorrupt);
  }
  return result.ok();
}

struct Case {
  CodecSpec spec;
  ElementType type;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const CodecSpec& spec : all_specs()) {
    if (spec.kind == CodecSpec::Kind::kNone) continue;
    for (const ElementType type : kAllElementTypes) {
      if (check_supports(spec, type)) all.push_back({spec, type});
    }
  }
  return all;
}

class CorruptionTest : public ::testing::TestWithParam<Case> {
 protected:
  ElementType type() const { return GetParam().type; }
  std::unique_ptr<Codec> codec_ = make_codec(GetParam().spec);
};

INSTANTIATE_TEST_SUITE_P(All, CorruptionTest, ::testing::ValuesIn(cases()), [](const auto& info) {
  std::string name = info.param.spec.str() + "_";
  name += to_string(info.param.type);
  for (char& letter : name) {
    if (std::isalnum(static_cast<unsigned char>(letter)) == 0) letter = '_';
  }
  return name;
});

TEST_P(CorruptionTest, EveryFlippedByteOfASmallPayloadStaysInBounds) {
  const std::vector<uint8_t> elements = make_elements(DataKind::kGradient, type(), 700);
  const std::vector<uint8_t> payload = encode_all(*codec_, type(), elements);
  for (size_t i = 0; i < payload.size(); ++i) {
    for (const uint8_t flip : {0x01, 0x80, 0xFF}) {
      std::vector<uint8_t> damaged = payload;
      damaged[i] ^= flip;
      const bool decoded = decodes(*codec_, type(), damaged, 700);
      if (i < 24) {
        EXPECT_FALSE(decoded) << "header byte " << i;
      }
    }
  }
}

TEST_P(CorruptionTest, ACutTailIsRefusedAtEveryLength) {
  for (const DataKind kind : {DataKind::kGradient, DataKind::kRandomBits, DataKind::kZeros}) {
    const std::vector<uint8_t> elements = make_elements(kind, type(), 300);
    std::vector<uint8_t> payload = encode_all(*codec_, type(), elements);
    while (!payload.empty()) {
      payload.pop_back();
      EXPECT_FALSE(decodes(*codec_, type(), payload, 300)) << payload.size() << " bytes";
    }
  }
}

TEST_P(CorruptionTest, BytesBehindThePayloadAreRefused) {
  for (const size_t count : {0, 1, 300}) {
    std::vector<uint8_t> payload =
        encode_all(*codec_, type(), make_elements(DataKind::kGradient, type(), count));
    payload.push_back(0);
    EXPECT_FALSE(decodes(*codec_, type(), payload, count));
  }
}

// One seeded case: a good payload with some bytes changed, a piece cut out or its end cut off.
std::vector<uint8_t> damage(std::vector<uint8_t> payload, std::mt19937_64& random) {
  const auto at = [&] { return static_cast<ptrdiff_t>(random() % payload.size()); };
  switch (random() % 4) {
    case 0:
      for (uint64_t flips = 1 + random() % 20; flips > 0; --flips) {
        payload[static_cast<size_t>(at())] = static_cast<uint8_t>(random());
      }
      break;
    case 1: {
      // The descriptors and the heads of the frames: where damage is most dangerous.
      const size_t head = std::min<size_t>(payload.size(), 80);
      for (uint64_t flips = 1 + random() % 4; flips > 0; --flips) {
        payload[24 + random() % (head - 24)] ^= static_cast<uint8_t>(1U << random() % 8);
      }
      break;
    }
    case 2:
      payload.resize(random() % payload.size());
      break;
    default: {
      const ptrdiff_t from = at();
      payload.erase(
          payload.begin() + from,
          payload.begin() + std::min<ptrdiff_t>(from + 1 + static_cast<ptrdiff_t>(random() % 9),
                                                static_cast<ptrdiff_t>(payload.size())));
    }
  }
  return payload;
}

TEST_P(CorruptionTest, ThousandsOfDamagedPayloadsStayInBounds) {
  constexpr size_t kCount = 5000;
  constexpr int kCasesPerKind = 60;
  std::mt19937_64 random(11);
  for (const DataKind kind : kAllDataKinds) {
    const std::vector<uint8_t> elements = make_elements(kind, type(), kCount);
    const std::vector<uint8_t> payload = encode_all(*codec_, type(), elements);
    for (int i = 0; i < kCasesPerKind; ++i) {
      decodes(*codec_, type(), damage(payload, random), kCount);
    }
    // And the codec still works after all of that.
    EXPECT_TRUE(decodes(*codec_, type(), payload, kCount));
  }
}

TEST_P(CorruptionTest, GarbageBehindAGoodHeaderStaysInBounds) {
  constexpr size_t kCount = 400;
  std::mt19937_64 random(13);
  const std::vector<uint8_t> good =
      encode_all(*codec_, type(), make_elements(DataKind::kGradient, type(), kCount));
  for (int i = 0; i < 300; ++i) {
    std::vector<uint8_t> garbage(24 + random() % 3000);
    for (uint8_t& byte : garbage) byte = static_cast<uint8_t>(random());
    std::copy_n(good.begin(), 24, garbage.begin());
    EXPECT_FALSE(decodes(*codec_, type(), garbage, kCount));
  }
}

// A frame may declare any size; it must not make the decoder allocate that much or write it.
TEST_P(CorruptionTest, AFrameThatDeclaresMoreThanItsPlaneIsRefused) {
  const std::vector<uint8_t> large =
      encode_all(*codec_, type(), make_elements(DataKind::kZeros, type(), 60'000));
  std::vector<uint8_t> lying = large;
  const uint64_t small_count = 100;
  std::memcpy(lying.data() + 8, &small_count, sizeof(small_count));
  EXPECT_FALSE(decodes(*codec_, type(), lying, small_count));
}

}  // namespace
}  // namespace longhaul

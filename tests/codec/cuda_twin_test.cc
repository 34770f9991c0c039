// The kernels of codec/cuda, run on the CPU: every payload is the scalar reference's to the byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>

#include "codec/cuda/payload_encoder.h"
#include "codec/make_codec.h"
#include "longhaul/base/strings.h"
#include "tests/codec/sample_data.h"

namespace longhaul {
namespace {

using namespace testing;  // longhaul::testing
using ::testing::ElementsAre;

constexpr uint8_t kGuard = 0xA5;

struct TwinCase {
  CodecSpec spec;
  ElementType type;
  EncodeContext context;
};

std::vector<uint8_t> encode_by_reference(const TwinCase& c, ByteSpan elements) {
  return encode_all(*make_codec(c.spec, SimdLevel::kScalar), c.type, elements, c.context);
}

// What the host and the three kernels of cuda_encoder.cu do.
std::vector<uint8_t> encode_by_twin(const TwinCase& c, ByteSpan elements, bool backwards) {
  const cuda::Team team{backwards};
  const size_t count = elements.size() / element_bytes(c.type);
  const cuda::BucketTask task =
      cuda::bucket_task(c.spec, c.type, elements.data(), count, c.context);
  const size_t words = cuda::slot_words(task.width);
  std::vector<uint32_t> slot_words(words * task.tiles() + 1, 0xA5A5A5A5);
  std::vector<uint32_t> stored_bytes(task.tiles());
  std::vector<uint64_t> payload_at(task.tiles());
  const cuda::Slots slots{slot_words.data(), stored_bytes.data(), payload_at.data()};
  const auto memory = std::make_unique<cuda::TileMemory>();
  std::fill_n(reinterpret_cast<uint8_t*>(memory.get()), sizeof(cuda::TileMemory), kGuard);

  const size_t most = make_codec(c.spec)->max_payload_bytes(c.type, count);
  std::vector<uint8_t> payload(most + kGuardBytes, kGuard);
  uint64_t written = 0;
  for (uint32_t tile = 0; tile < task.tiles(); ++tile) {
    stored_bytes[tile] = cuda::encode_tile(team, task.tile(tile), task.rice, *memory,
                                           slot_words.data() + tile * words);
  }
  cuda::PlacingMemory placing;
  cuda::place_tiles(team, task, slots, placing, payload.data(), &written);
  for (uint32_t tile = 0; tile < task.tiles(); ++tile) {
    cuda::move_tile(team, slots, tile, task.width, payload.data());
  }
  EXPECT_EQ(slot_words.back(), 0xA5A5A5A5);
  EXPECT_LE(written, most);
  EXPECT_TRUE(std::all_of(payload.begin() + static_cast<ptrdiff_t>(written), payload.end(),
                          [](uint8_t byte) { return byte == kGuard; }));
  payload.resize(written);
  return payload;
}

// What the reference's payloads were made of, so that no test passes for want of cases.
struct Seen {
  std::set<uint8_t> formats;
  std::set<uint16_t> marks;  // steps that are none
  std::set<uint8_t> k;
  std::set<uint8_t> unary;
  bool escaped = false;

  void look_at(const TwinCase& c, size_t element_count, ByteSpan payload) {
    const PayloadShape shape{c.spec.kind, c.type, element_count, kQuantizedTileElements,
                             c.spec.block};
    size_t at = shape.head_bytes();
    for (size_t tile = 0; tile < shape.tiles(); ++tile) {
      const size_t first = tile * kQuantizedTileElements;
      look_at(c, std::min<size_t>(element_count - first, kQuantizedTileElements),
              payload.data() + at);
      at += stored_tile_bytes(tile, payload);
    }
  }

 private:
  void look_at(const TwinCase& c, size_t count, const uint8_t* stored) {
    formats.insert(stored[0]);
    if (stored[0] == kRawTile) return;
    const size_t blocks = (count + c.spec.block - 1) / c.spec.block;
    bool raw = false;
    for (size_t block = 0; block < blocks; ++block) {
      const auto step = load<uint16_t>(stored + 1 + block * sizeof(uint16_t));
      if (!is_step(step)) marks.insert(step);
      raw = raw || step == kRawBlock;
    }
    if (raw || stored[0] != kRiceTile) return;
    const uint8_t* const heads = stored + 1 + blocks * sizeof(uint16_t);
    for (size_t block = 0; block * kPlaneBlock < count; ++block) {
      const BlockHead head = unpack_head(heads[block]);
      k.insert(static_cast<uint8_t>(head.k));
      unary.insert(static_cast<uint8_t>(head.unary));
      escaped = escaped || head.escaped;
    }
  }
};

void expect_same_bytes(const TwinCase& c, const std::vector<uint8_t>& elements, Seen& seen) {
  const std::vector<uint8_t> expected = encode_by_reference(c, elements);
  seen.look_at(c, elements.size() / element_bytes(c.type), expected);
  for (const bool backwards : {false, true}) {
    ASSERT_TRUE(encode_by_twin(c, elements, backwards) == expected)
        << c.spec.str() << ", " << elements.size() / element_bytes(c.type) << " x "
        << to_string(c.type) << (backwards ? ", backwards" : "");
  }
}

void expect_same_bytes(const TwinCase& c, const std::vector<uint8_t>& elements) {
  Seen seen;
  expect_same_bytes(c, elements, seen);
}

// Any spec that the twin takes.
CodecSpec random_spec(std::mt19937_64& random) {
  CodecSpec spec =
      CodecSpec::of(random() % 2 == 0 ? CodecSpec::Kind::kInt8 : CodecSpec::Kind::kRms);
  spec.stage = random() % 3 == 0 ? CodecSpec::Stage::kPacked : CodecSpec::Stage::kRice;
  spec.rounding =
      random() % 2 == 0 ? CodecSpec::Rounding::kNearest : CodecSpec::Rounding::kStochastic;
  spec.block = 64U << random() % 7;
  if (spec.kind == CodecSpec::Kind::kRms)
    spec.step = std::exp2(static_cast<float>(random() % 9) - 5);
  return spec;
}

EncodeContext random_context(std::mt19937_64& random) {
  return {random(), static_cast<uint32_t>(random()), static_cast<uint32_t>(random()),
          random() % 2 == 0 ? 0 : random()};
}

TEST(CudaTwinTest, RandomBucketsOfEveryKindGiveTheReferencesBytes) {
  std::mt19937_64 random(1);
  Seen seen;
  for (int round = 0; round < 600; ++round) {
    const TwinCase c{random_spec(random), kAllElementTypes[random() % 4], random_context(random)};
    ASSERT_TRUE(c.spec.valid());
    const DataKind kind = kAllDataKinds[random() % std::size(kAllDataKinds)];
    const size_t most = round % 10 == 0 ? 50'000 : 5'000;
    SCOPED_TRACE(to_string(kind));
    expect_same_bytes(c, make_elements(kind, c.type, random() % most, random()), seen);
  }
  EXPECT_THAT(seen.formats, ElementsAre(kRawTile, kPackedTile, kRiceTile));
  EXPECT_THAT(seen.marks, ElementsAre(kZeroBlock, kRawBlock));
}

// Blocks of one scale each, from denormals to numbers that travel raw, some with a special number
// somewhere: no two neighbours go the same way.
TEST(CudaTwinTest, BlocksOfAllScalesAndSpecialNumbersGiveTheReferencesBytes) {
  std::mt19937_64 random(2);
  std::normal_distribution<double> normal;
  size_t blocks = 0;
  for (int round = 0; round < 120; ++round) {
    const TwinCase c{random_spec(random), kAllElementTypes[random() % 4], random_context(random)};
    const size_t width = element_bytes(c.type);
    const size_t count = 1 + random() % (80 * c.spec.block % 40'000 + 1);
    const int range = c.type == ElementType::kFloat16 ? 17 : 132;
    std::vector<uint8_t> elements(count * width);
    double scale = 0;
    for (size_t i = 0; i < count; ++i) {
      if (i % c.spec.block == 0) {
        scale = std::exp2(static_cast<int>(random() % (2 * range)) - range);
        if (random() % 8 == 0) scale = 0;
        ++blocks;
      }
      uint64_t bits = bits_of(c.type, scale * normal(random));
      if (random() % (4 * c.spec.block) == 0) bits = special_bits(c.type, random());
      std::memcpy(elements.data() + i * width, &bits, width);
    }
    expect_same_bytes(c, elements);
  }
  EXPECT_GT(blocks, 2000U);
}

// Every head of the bit planes: from no unary plane to escapes, one outlier among zeros included.
TEST(CudaTwinTest, OutliersEscapeAsInTheReference) {
  std::mt19937_64 random(3);
  Seen seen;
  std::normal_distribution<float> normal;
  for (const char* text : {"rms:step=0.03125", "rms:step=0.5,block=1024", "rms:step=2",
                           "int8:stage=rice", "int8:stage=rice,block=64"}) {
    const CodecSpec spec = *CodecSpec::parse(text);
    for (const float outlier : {1.0F, 3.0F, 10.0F, 30.0F, 100.0F, 1000.0F}) {
      for (const size_t every : {3, 50, 255, 4000}) {
        std::vector<float> values(10'007);
        for (size_t i = 0; i < values.size(); ++i) {
          values[i] = i % every == every / 2 ? outlier : normal(random) * (i / 2048 % 2 == 0);
        }
        std::vector<uint8_t> elements(values.size() * sizeof(float));
        std::memcpy(elements.data(), values.data(), elements.size());
        expect_same_bytes({spec, ElementType::kFloat32, {}}, elements, seen);
      }
    }
  }
  EXPECT_THAT(seen.k, ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT(seen.unary, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_TRUE(seen.escaped);
}

TEST(CudaTwinTest, EverySizeAroundLanesGroupsBlocksAndTilesGivesTheReferencesBytes) {
  for (const char* text : {"int8:block=128", "rms:block=64", "rms:step=1,rounding=stochastic"}) {
    const CodecSpec spec = *CodecSpec::parse(text);
    for (const size_t around : {0, 64, 128, 192, 256, 320, 512, 16'384, 2 * 16'384}) {
      for (const size_t count : {around, around + 1, around + 2, around + 63}) {
        const TwinCase c{spec, ElementType::kFloat32, {.step = 3, .bucket = 1, .rank = 2}};
        expect_same_bytes(c, make_elements(DataKind::kGradient, c.type, count, count));
        if (around > 0) {
          expect_same_bytes(c, make_elements(DataKind::kSparseRows, c.type, around - 1, count));
        }
      }
    }
  }
}

// More tiles than the team that places them has threads.
TEST(CudaTwinTest, ABucketOfManyTilesGivesTheReferencesBytes) {
  const TwinCase c{*CodecSpec::parse("rms"), ElementType::kBFloat16, {}};
  expect_same_bytes(c, make_elements(DataKind::kSpecials, c.type, 300 * 16'384 + 5));
}

}  // namespace
}  // namespace longhaul

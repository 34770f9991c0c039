#include "codec/plane_coder.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "codec/convert.h"
#include "codec/corrupt.h"

namespace longhaul {
namespace {

// A stored tile: its format byte, a descriptor per plane, then the planes.
constexpr uint8_t kPlanesTile = 1;

// A descriptor: how the plane is stored in its top two bits, its stored bytes in the others.
constexpr size_t kDescriptorBytes = 4;
constexpr uint32_t kStoredBytesMask = (1U << 30) - 1;
enum class PlaneFormat : uint8_t { kRaw = 0, kZstd = 1, kRanked = 2 };

uint32_t descriptor(PlaneFormat format, size_t stored_bytes) {
  return static_cast<uint32_t>(format) << 30 | static_cast<uint32_t>(stored_bytes);
}

// A sample is this many pieces of this many elements, spread evenly over the tile.
constexpr size_t kSamplePieces = 16;
constexpr size_t kSamplePieceElements = 64;
static_assert(kSamplePieces * kSamplePieceElements == kMaxSampleBytes);

// What Rice codes may lose to Huffman's, in bits per byte, for being several times as fast: 1.3 %
// of fp32, 3 % of bf16.
constexpr float kMostBitsForSpeed = 0.35F;

// Coded planes must save a sixty-fourth, or they are not worth decoding.
size_t most_stored_bytes(size_t count) {
  return count - count / 64;
}

ByteCounts count_bytes(ByteSpan sample) {
  ByteCounts counts{};
  for (const uint8_t byte : sample) ++counts[byte];
  return counts;
}

}  // namespace

PlaneCoder::PlaneCoder(Skewed skewed, SimdLevel level)
    : skewed_(skewed),
      level_(level),
      rank_coder_(kPlaneTileElements, level),
      scratch_(kMaxPlanes * kPlaneTileElements),
      decoded_(kMaxPlanes * kPlaneTileElements) {}

// The lowest planes are mostly raw. Their size is known, so splitting writes them straight into the
// payload, up to the first plane that is to be coded; that one and those behind it pass through
// scratch, because where they begin depends on what coding makes of the ones before.
size_t PlaneCoder::encode(const EncodeContext& /*context*/, ElementType type, ByteSpan elements,
                          MutableByteSpan to) {
  const size_t width = element_bytes(type);
  const size_t count = elements.size() / width;
  choose_planes(type, elements);
  to[0] = kPlanesTile;
  uint8_t* const descriptors = to.data() + 1;
  size_t written = 1 + width * kDescriptorBytes;
  size_t first_coded = 0;
  PlanePointers planes{};
  for (; first_coded < width && plans_[first_coded].choice == PlaneChoice::kRaw; ++first_coded) {
    store(descriptors + first_coded * kDescriptorBytes, descriptor(PlaneFormat::kRaw, count));
    planes[first_coded] = to.data() + written;
    written += count;
  }
  for (size_t p = first_coded; p < width; ++p) planes[p] = scratch_plane(p, count).data();
  split_planes(type, level_, elements.data(), count, planes);
  for (size_t p = first_coded; p < width; ++p) {
    written += encode_plane(plans_[p], {planes[p], count}, elements.data() + elements.size(),
                            descriptors + p * kDescriptorBytes, to.subspan(written));
  }
  return written;
}

size_t PlaneCoder::encode_plane(const Plan& plan, ByteSpan plane, const void* soon,
                                uint8_t* descriptor_at, MutableByteSpan to) {
  std::optional<size_t> coded;
  PlaneFormat format = PlaneFormat::kZstd;
  if (plan.ranked) {
    format = PlaneFormat::kRanked;
    coded = rank_coder_.encode(plan.ranks, plane, to.data(), soon);
  } else if (plan.choice != PlaneChoice::kRaw) {
    coded = zstd_.encode(plan.choice, plane, to);
  }
  // A sample can be wrong. What is raw after all overwrites the coded bytes, so no more than one
  // plane at a time takes more room than its elements (most_coded_bytes() in tile_coder.h).
  if (coded && *coded < most_stored_bytes(plane.size())) {
    store(descriptor_at, descriptor(format, *coded));
    return *coded;
  }
  std::copy(plane.begin(), plane.end(), to.begin());
  store(descriptor_at, descriptor(PlaneFormat::kRaw, plane.size()));
  return plane.size();
}

// The sample is split into planes by the same function as the tile, in scratch that is free until
// the planes of the tile itself are made. A tile of less than a piece gives an empty sample, and
// raw planes.
void PlaneCoder::choose_planes(ElementType type, ByteSpan tile) {
  const size_t width = element_bytes(type);
  const size_t count = tile.size() / width;
  const size_t pieces = std::min(kSamplePieces, count / kSamplePieceElements);
  const size_t stride = pieces == 0 ? 0 : count / pieces;
  PlanePointers planes{};
  for (size_t piece = 0; piece < pieces; ++piece) {
    for (size_t p = 0; p < width; ++p) {
      planes[p] = scratch_plane(p, kMaxSampleBytes).data() + piece * kSamplePieceElements;
    }
    split_planes(type, level_, tile.data() + piece * stride * width, kSamplePieceElements, planes);
  }
  for (size_t p = 0; p < width; ++p) {
    plan_plane(scratch_plane(p, pieces * kSamplePieceElements), plans_[p]);
  }
}

void PlaneCoder::plan_plane(ByteSpan sample, Plan& plan) const {
  plan.choice = choose_plane(sample);
  plan.ranked = false;
  if (plan.choice != PlaneChoice::kHuffman || skewed_ == Skewed::kHuffman) return;
  const ByteCounts counts = count_bytes(sample);
  plan.ranks = make_rank_table(counts);
  plan.ranked = rank_coded_bits(counts, plan.ranks) < entropy_bits(counts) + kMostBitsForSpeed;
}

Result<void> PlaneCoder::decode(ElementType type, ByteSpan stored, MutableByteSpan elements) {
  return decode(type, stored, elements, elements.data());
}

Result<void> PlaneCoder::decode(ElementType type, ByteSpan stored, MutableByteSpan elements,
                                const void* soon) {
  const size_t width = element_bytes(type);
  const size_t count = elements.size() / width;
  if (stored[0] != kPlanesTile) return corrupt("unknown format ", static_cast<int>(stored[0]));
  size_t read = 1 + width * kDescriptorBytes;
  if (stored.size() < read) return corrupt("cut in its descriptors");
  ConstPlanePointers planes{};
  for (size_t p = 0; p < width; ++p) {
    const uint32_t word = load<uint32_t>(stored.data() + 1 + p * kDescriptorBytes);
    const size_t bytes = word & kStoredBytesMask;
    if (bytes > stored.size() - read) return corrupt("cut in plane ", p);
    const Result<const uint8_t*> plane =
        decode_plane(p, word, stored.subspan(read, bytes), count, soon);
    if (!plane) return plane.failure();
    planes[p] = *plane;
    read += bytes;
  }
  if (read != stored.size()) return corrupt(stored.size() - read, " bytes too many");
  merge_planes(type, level_, planes, count, elements.data());
  return {};
}

Result<const uint8_t*> PlaneCoder::decode_plane(size_t index, uint32_t descriptor, ByteSpan stored,
                                                size_t count, const void* soon) {
  const MutableByteSpan plane = scratch_plane(index, count);
  switch (static_cast<PlaneFormat>(descriptor >> 30)) {
    case PlaneFormat::kRaw:
      // Merged from where it stands, without a copy.
      if (stored.size() == count) return stored.data();
      return corrupt("plane ", index, " has ", stored.size(), " of ", count, " bytes");
    case PlaneFormat::kZstd:
      if (zstd_.decode(stored, plane)) return plane.data();
      return corrupt("plane ", index, " does not decode");
    case PlaneFormat::kRanked:
      if (rank_coder_.decode(stored, plane, soon)) return plane.data();
      return corrupt("plane ", index, " does not decode");
  }
  return corrupt("plane ", index, " has unknown format ", descriptor >> 30);
}

Result<void> PlaneCoder::decode_add(ElementType type, ByteSpan stored, std::span<float> sums,
                                    float scale) {
  const MutableByteSpan elements(decoded_.get(), sums.size() * element_bytes(type));
  const Result<void> decoded = decode(type, stored, elements, sums.data());
  if (decoded) add_elements(type, level_, elements.data(), sums.size(), scale, sums.data());
  return decoded;
}

MutableByteSpan PlaneCoder::scratch_plane(size_t plane, size_t count) {
  return {scratch_.get() + plane * kPlaneTileElements, count};
}

}  // namespace longhaul

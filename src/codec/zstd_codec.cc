#include "codec/zstd_codec.h"

#include <algorithm>

#include "longhaul/base/check.h"

namespace longhaul {
namespace {

// The format (docs/wire.md). Payload: header, then tiles. Tile: a descriptor per plane, then
// planes.
constexpr uint32_t kPayloadMagic = 0x315A484C;  // "LHZ1"
constexpr size_t kTypeAt = 4;
constexpr size_t kReservedAt = 5;  // three bytes
constexpr size_t kElementCountAt = 8;
constexpr size_t kPayloadHeaderBytes = 16;

// Elements of a tile: few enough that a tile and its planes stay in a core's L2, many enough that a
// Huffman table (some 50 bytes) and the start of a zstd frame are lost in it.
constexpr size_t kTileElements = 64 * 1024;

// A descriptor: how the plane is stored in its top two bits, its stored bytes in the others.
constexpr size_t kDescriptorBytes = 4;
constexpr uint32_t kStoredBytesMask = (1U << 30) - 1;
enum class PlaneFormat : uint8_t { kRaw = 0, kZstd = 1 };

uint32_t descriptor(PlaneFormat format, size_t stored_bytes) {
  return static_cast<uint32_t>(format) << 30 | static_cast<uint32_t>(stored_bytes);
}

// A sample is this many pieces of this many elements, spread evenly over the tile.
constexpr size_t kSamplePieces = 16;
constexpr size_t kSamplePieceElements = 64;
static_assert(kSamplePieces * kSamplePieceElements == kMaxSampleBytes);

// Coded planes must save a sixty-fourth, or they are not worth decoding.
size_t most_stored_bytes(size_t count) {
  return count - count / 64;
}

template <typename... Args>
Failure corrupt(const Args&... what) {
  return {ErrorKind::kCorrupt, str_cat("zstd payload: ", what...)};
}

void write_header(ElementType type, size_t element_count, uint8_t* header) {
  store(header, kPayloadMagic);
  store(header + kTypeAt, static_cast<uint8_t>(type));
  std::fill_n(header + kReservedAt, kElementCountAt - kReservedAt, uint8_t{0});
  store(header + kElementCountAt, uint64_t{element_count});
}

Result<void> check_header(ElementType type, size_t element_count, ByteSpan payload) {
  if (payload.size() < kPayloadHeaderBytes) {
    return corrupt(payload.size(), " bytes, its header alone has ", kPayloadHeaderBytes);
  }
  const uint8_t* header = payload.data();
  const uint64_t declared_count = load<uint64_t>(header + kElementCountAt);
  if (load<uint32_t>(header) != kPayloadMagic) {
    return corrupt("it does not start with the format's magic number");
  }
  if (header[kTypeAt] != static_cast<uint8_t>(type) || declared_count != element_count) {
    return corrupt("made of ", declared_count, " x ", to_string(ElementType{header[kTypeAt]}),
                   ", expected ", element_count, " x ", to_string(type));
  }
  if (header[5] != 0 || header[6] != 0 || header[7] != 0) {
    return corrupt("reserved bytes are not zero");
  }
  return {};
}

}  // namespace

ZstdCodec::ZstdCodec(SimdLevel level)
    : level_(level),
      scratch_(std::make_unique_for_overwrite<uint8_t[]>(kMaxPlanes * kTileElements)) {}

size_t ZstdCodec::max_payload_bytes(ElementType type, size_t element_count) const {
  const size_t tiles = (element_count + kTileElements - 1) / kTileElements;
  const size_t width = element_bytes(type);
  return kPayloadHeaderBytes + tiles * width * kDescriptorBytes + element_count * width;
}

size_t ZstdCodec::encode(ElementType type, ByteSpan elements, MutableByteSpan payload) {
  const size_t width = element_bytes(type);
  const size_t count = elements.size() / width;
  LONGHAUL_CHECK(elements.size() % width == 0U);
  LONGHAUL_CHECK(payload.size() >= max_payload_bytes(type, count));
  write_header(type, count, payload.data());
  size_t written = kPayloadHeaderBytes;
  while (!elements.empty()) {
    const size_t tile_bytes = std::min(elements.size(), kTileElements * width);
    written += encode_tile(type, elements.first(tile_bytes), payload.subspan(written));
    elements = elements.subspan(tile_bytes);
  }
  return written;
}

// Raw planes up to the first coded one are written where they stay; the others pass through
// scratch.
size_t ZstdCodec::encode_tile(ElementType type, ByteSpan tile, MutableByteSpan payload) {
  const size_t width = element_bytes(type);
  const size_t count = tile.size() / width;
  const PlaneChoices choices = choose_planes(type, tile);
  size_t written = width * kDescriptorBytes;
  size_t first_coded = 0;
  PlanePointers planes{};
  for (; first_coded < width && choices[first_coded] == PlaneChoice::kRaw; ++first_coded) {
    store(payload.data() + first_coded * kDescriptorBytes, descriptor(PlaneFormat::kRaw, count));
    planes[first_coded] = payload.data() + written;
    written += count;
  }
  for (size_t p = first_coded; p < width; ++p) planes[p] = scratch_plane(p, count).data();
  split_planes(type, level_, tile.data(), count, planes);
  for (size_t p = first_coded; p < width; ++p) {
    written += encode_plane(choices[p], {planes[p], count}, payload.data() + p * kDescriptorBytes,
                            payload.subspan(written));
  }
  return written;
}

size_t ZstdCodec::encode_plane(PlaneChoice choice, ByteSpan plane, uint8_t* descriptor_at,
                               MutableByteSpan to) {
  std::optional<size_t> coded;
  if (choice != PlaneChoice::kRaw) coded = coder_.encode(choice, plane, to);
  if (coded && *coded < most_stored_bytes(plane.size())) {
    store(descriptor_at, descriptor(PlaneFormat::kZstd, *coded));
    return *coded;
  }
  std::copy(plane.begin(), plane.end(), to.begin());
  store(descriptor_at, descriptor(PlaneFormat::kRaw, plane.size()));
  return plane.size();
}

ZstdCodec::PlaneChoices ZstdCodec::choose_planes(ElementType type, ByteSpan tile) {
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
  PlaneChoices choices{};
  for (size_t p = 0; p < width; ++p) {
    choices[p] = choose_plane(scratch_plane(p, pieces * kSamplePieceElements));
  }
  return choices;
}

Result<void> ZstdCodec::decode(ElementType type, ByteSpan payload, MutableByteSpan elements) {
  const size_t width = element_bytes(type);
  LONGHAUL_CHECK(elements.size() % width == 0U);
  const Result<void> header = check_header(type, elements.size() / width, payload);
  if (!header) return header;
  payload = payload.subspan(kPayloadHeaderBytes);
  while (!elements.empty()) {
    const size_t tile_bytes = std::min(elements.size(), kTileElements * width);
    const Result<size_t> read = decode_tile(type, payload, elements.first(tile_bytes));
    if (!read) return read.failure();
    payload = payload.subspan(*read);
    elements = elements.subspan(tile_bytes);
  }
  if (!payload.empty()) return corrupt(payload.size(), " bytes too many");
  return {};
}

// Returns the bytes of the tile's part of the payload.
Result<size_t> ZstdCodec::decode_tile(ElementType type, ByteSpan payload, MutableByteSpan tile) {
  const size_t width = element_bytes(type);
  const size_t count = tile.size() / width;
  size_t read = width * kDescriptorBytes;
  if (payload.size() < read) return corrupt("cut in a tile's descriptors");
  ConstPlanePointers planes{};
  for (size_t p = 0; p < width; ++p) {
    const uint32_t word = load<uint32_t>(payload.data() + p * kDescriptorBytes);
    const size_t stored_bytes = word & kStoredBytesMask;
    if (stored_bytes > payload.size() - read) return corrupt("cut in plane ", p);
    const ByteSpan stored = payload.subspan(read, stored_bytes);
    read += stored_bytes;
    if (word >> 30 == static_cast<uint32_t>(PlaneFormat::kRaw)) {
      if (stored_bytes != count)
        return corrupt("plane ", p, " has ", stored_bytes, " of ", count, " bytes");
      planes[p] = stored.data();
    } else if (word >> 30 == static_cast<uint32_t>(PlaneFormat::kZstd)) {
      if (!coder_.decode(stored, scratch_plane(p, count)))
        return corrupt("plane ", p, " does not decode");
      planes[p] = scratch_plane(p, count).data();
    } else {
      return corrupt("plane ", p, " has unknown format ", word >> 30);
    }
  }
  merge_planes(type, level_, planes, count, tile.data());
  return read;
}

MutableByteSpan ZstdCodec::scratch_plane(size_t plane, size_t count) {
  return {scratch_.get() + plane * kTileElements, count};
}

}  // namespace longhaul

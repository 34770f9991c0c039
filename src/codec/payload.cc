#include "codec/payload.h"

#include <algorithm>

#include "codec/corrupt.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr uint32_t kPayloadMagic = 0x3150484C;  // "LHP1"
constexpr size_t kKindAt = 4;
constexpr size_t kTypeAt = 5;
constexpr size_t kReservedAt = 6;
constexpr size_t kElementCountAt = 8;
constexpr size_t kTileElementsAt = 16;
constexpr size_t kBlockAt = 20;

std::string name_of(uint8_t kind) {
  const std::vector<std::string> names = CodecSpec::names();
  return kind < names.size() ? names[kind] : str_cat("unknown codec ", static_cast<int>(kind));
}

Result<void> check_header(const PayloadShape& shape, const uint8_t* header) {
  const uint64_t count = load<uint64_t>(header + kElementCountAt);
  const uint32_t tile = load<uint32_t>(header + kTileElementsAt);
  const uint32_t block = load<uint32_t>(header + kBlockAt);
  if (load<uint32_t>(header) != kPayloadMagic) {
    return corrupt("payload: ", "it does not start with the format's magic number");
  }
  if (header[kKindAt] != static_cast<uint8_t>(shape.kind)) {
    return corrupt("payload: ", "made by codec ", name_of(header[kKindAt]), ", expected ",
                   name_of(static_cast<uint8_t>(shape.kind)));
  }
  if (header[kTypeAt] != static_cast<uint8_t>(shape.type) || count != shape.element_count) {
    return corrupt("payload: ", "made of ", count, " x ", to_string(ElementType{header[kTypeAt]}),
                   ", expected ", shape.element_count, " x ", to_string(shape.type));
  }
  if (tile != shape.tile_elements || block != shape.block) {
    return corrupt("payload: ", "made in tiles of ", tile, " and blocks of ", block, ", expected ",
                   shape.tile_elements, " and ", shape.block);
  }
  if (load<uint16_t>(header + kReservedAt) != 0)
    return corrupt("payload: ", "reserved bytes are not zero");
  return {};
}

}  // namespace

void write_payload_header(const PayloadShape& shape, uint8_t* payload) {
  store(payload, kPayloadMagic);
  store(payload + kKindAt, static_cast<uint8_t>(shape.kind));
  store(payload + kTypeAt, static_cast<uint8_t>(shape.type));
  store(payload + kReservedAt, uint16_t{0});
  store(payload + kElementCountAt, uint64_t{shape.element_count});
  store(payload + kTileElementsAt, shape.tile_elements);
  store(payload + kBlockAt, shape.block);
}

void write_directory_entry(size_t tile, size_t stored_bytes, uint8_t* payload) {
  store(payload + kPayloadHeaderBytes + tile * kDirectoryEntryBytes,
        static_cast<uint32_t>(stored_bytes));
}

size_t stored_tile_bytes(size_t tile, ByteSpan payload) {
  return load<uint32_t>(payload.data() + kPayloadHeaderBytes + tile * kDirectoryEntryBytes);
}

Result<void> check_payload(const PayloadShape& shape, ByteSpan payload) {
  if (payload.size() < kPayloadHeaderBytes) {
    return corrupt("payload: ", payload.size(), " bytes, its header alone has ",
                   kPayloadHeaderBytes);
  }
  // First: from here on the number of elements is the caller's, so no loop below is as long as a
  // payload wishes.
  const Result<void> header = check_header(shape, payload.data());
  if (!header) return header;
  if (payload.size() < shape.head_bytes()) return corrupt("payload: ", "cut in its directory");
  // Entries have 32 bits and the sum 64, so it cannot wrap around.
  uint64_t total = shape.head_bytes();
  for (size_t tile = 0; tile < shape.tiles(); ++tile) {
    const size_t bytes = stored_tile_bytes(tile, payload);
    if (bytes == 0) return corrupt("payload: ", "tile ", tile, " has no bytes");
    total += bytes;
  }
  if (total != payload.size()) {
    return corrupt("payload: ", payload.size(), " bytes, its directory speaks of ", total);
  }
  return {};
}

}  // namespace longhaul

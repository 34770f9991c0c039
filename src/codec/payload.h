// The head of a payload: a header that says what it was made from, then a directory with the stored
// bytes of each tile, so that tiles can be decoded one by one and side by side. Format:
// docs/wire.md.
#pragma once

#include "longhaul/codec/codec.h"

namespace longhaul {

inline constexpr size_t kPayloadHeaderBytes = 24;
inline constexpr size_t kDirectoryEntryBytes = 4;

// What encoder and decoder must agree on.
struct PayloadShape {
  CodecSpec::Kind kind = CodecSpec::Kind::kNone;
  ElementType type = ElementType::kFloat32;
  size_t element_count = 0;
  uint32_t tile_elements = 0;
  uint32_t block = 0;

  size_t tiles() const {
    return element_count / tile_elements + (element_count % tile_elements != 0 ? 1 : 0);
  }
  size_t head_bytes() const { return kPayloadHeaderBytes + tiles() * kDirectoryEntryBytes; }
  // A stored tile is never longer than its elements and a format byte.
  size_t most_payload_bytes() const {
    return head_bytes() + tiles() + element_count * element_bytes(type);
  }
};

void write_payload_header(const PayloadShape& shape, uint8_t* payload);
void write_directory_entry(size_t tile, size_t stored_bytes, uint8_t* payload);

// Whether `payload` has the shape and its directory adds up to its size. Errors: kCorrupt.
Result<void> check_payload(const PayloadShape& shape, ByteSpan payload);
// Precondition: check_payload().
size_t stored_tile_bytes(size_t tile, ByteSpan payload);

}  // namespace longhaul

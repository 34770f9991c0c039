// What differs between the codecs that work in tiles: how one tile of elements becomes bytes.
// tiled_codec.h does the rest. A tile and everything made of it stay in a core's L2.
#pragma once

#include <span>

#include "longhaul/codec/codec.h"

namespace longhaul {

// The first byte of a stored tile says how it is stored; docs/wire.md has the others by codec.
inline constexpr uint8_t kRawTile = 0;  // its elements follow; never seen by a TileCoder

// Thread safety: one thread at a time.
class TileCoder {
 public:
  virtual ~TileCoder() = default;

  // Stores one tile, its format byte first; returns the bytes written. `to` holds at least
  // most_coded_bytes(); what is written may be longer than the elements, the caller then stores
  // those instead.
  virtual size_t encode(const EncodeContext& context, ElementType type, ByteSpan elements,
                        MutableByteSpan to) = 0;

  // `stored` is one whole tile with its format byte, which is not kRawTile. Errors: kCorrupt.
  virtual Result<void> decode(ElementType type, ByteSpan stored, MutableByteSpan elements) = 0;
  virtual Result<void> decode_add(ElementType type, ByteSpan stored, std::span<float> sums,
                                  float scale) = 0;
};

// Room for whatever a TileCoder may write: its widest codes (3 bytes an element), its elements raw,
// and its tables.
constexpr size_t most_coded_bytes(size_t element_count, size_t element_width) {
  return element_count * (element_width + 4) + 8192;
}

}  // namespace longhaul

// The codecs "int8" and "rms": blocks of whole steps (quantize.h), packed, Rice coded
// (bit_planes.h) or Huffman coded through zstd, whichever the spec asks for; a tile that would get
// longer that way is packed. Blocks with NaN, Inf or huge numbers travel raw, blocks of zeros as a
// step of 0. Format: docs/wire.md.
#pragma once

#include "codec/quantized_tile.h"
#include "codec/scratch.h"
#include "codec/tile_coder.h"
#include "codec/zstd_coder.h"

namespace longhaul {

class QuantizedCoder final : public TileCoder {
 public:
  QuantizedCoder(const CodecSpec& spec, SimdLevel level);

  size_t encode(const EncodeContext& context, ElementType type, ByteSpan elements,
                MutableByteSpan to) override;
  Result<void> decode(ElementType type, ByteSpan stored, MutableByteSpan elements) override;
  Result<void> decode_add(ElementType type, ByteSpan stored, std::span<float> sums,
                          float scale) override;

 private:
  // A stored tile, read: steps, then where its raw blocks and its codes are.
  struct Tile {
    const uint8_t* raw = nullptr;
    const int8_t* codes = nullptr;
  };

  size_t blocks(size_t count) const { return (count + spec_.block - 1) / spec_.block; }
  size_t block_count(size_t block, size_t count) const;
  size_t write_codes(size_t count, const void* soon, uint8_t* format, MutableByteSpan to);
  size_t write_packed(size_t count, uint8_t* to) const;
  Result<Tile> read(ElementType type, ByteSpan stored, size_t count, const void* soon);
  Result<void> read_codes(ByteSpan stored, size_t count, uint8_t format, const void* soon,
                          Tile& tile);
  Result<void> read_packed(ByteSpan stored, size_t count, Tile& tile);
  // Calls one(first element of the block, its elements) for each raw block.
  template <typename One>
  void for_each_raw(size_t count, const One& one) const;

  const CodecSpec spec_;
  const SimdLevel level_;
  ZstdCoder zstd_;
  Scratch floats_;  // a tile of another type as fp32
  Scratch codes_;
  uint16_t steps_[kMostQuantizedBlocks] = {};

  int8_t* codes() const { return reinterpret_cast<int8_t*>(codes_.get()); }
};

}  // namespace longhaul

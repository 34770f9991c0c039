// The codecs "bf16" and "fp16": elements rounded to two bytes, and those as they are (packed) or
// coded by planes (plane_coder.h). Elements that have the type already are left alone. Format:
// docs/wire.md.
#pragma once

#include <memory>

#include "codec/plane_coder.h"
#include "codec/tile_coder.h"

namespace longhaul {

class CastCoder final : public TileCoder {
 public:
  CastCoder(const CodecSpec& spec, SimdLevel level);

  size_t encode(const EncodeContext& context, ElementType type, ByteSpan elements,
                MutableByteSpan to) override;
  Result<void> decode(ElementType type, ByteSpan stored, MutableByteSpan elements) override;
  Result<void> decode_add(ElementType type, ByteSpan stored, std::span<float> sums,
                          float scale) override;

 private:
  void round(const EncodeContext& context, ElementType type, ByteSpan elements, uint8_t* to);
  // The two-byte elements of a stored tile.
  Result<const uint8_t*> read(ByteSpan stored, size_t count);

  const CodecSpec spec_;
  const SimdLevel level_;
  const ElementType narrow_;
  std::unique_ptr<PlaneCoder> planes_;
  Scratch floats_;
  Scratch rounded_;
};

}  // namespace longhaul

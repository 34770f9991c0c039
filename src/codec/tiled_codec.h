// All codecs but "none": the payload's head, the loop over tiles, and the promise that no tile is
// stored in more bytes than its elements have.
#pragma once

#include <memory>

#include "codec/payload.h"
#include "codec/scratch.h"
#include "codec/simd.h"
#include "codec/tile_coder.h"
#include "longhaul/codec/codec.h"

namespace longhaul {

class TiledCodec final : public Codec {
 public:
  TiledCodec(const CodecSpec& spec, SimdLevel level, uint32_t tile_elements,
             std::unique_ptr<TileCoder> coder);

  const CodecSpec& spec() const override { return spec_; }
  size_t max_payload_bytes(ElementType type, size_t element_count) const override;
  size_t encode(ElementType type, ByteSpan elements, MutableByteSpan payload,
                const EncodeContext& context) override;
  Result<void> decode(ElementType type, ByteSpan payload, MutableByteSpan elements) override;
  Result<void> decode_add(ElementType type, ByteSpan payload, std::span<float> sums,
                          float scale) override;

 private:
  PayloadShape shape(ElementType type, size_t element_count) const;
  size_t encode_tile(const EncodeContext& context, ElementType type, ByteSpan elements,
                     MutableByteSpan room);

  const CodecSpec spec_;
  const SimdLevel level_;
  const uint32_t tile_elements_;
  const std::unique_ptr<TileCoder> coder_;
  // One coded tile that might not fit into what is left of the payload.
  const Scratch overflow_;
};

}  // namespace longhaul

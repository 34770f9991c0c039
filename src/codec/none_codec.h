// The codec "none": the payload is the elements. It knows their bytes but not their type, so a
// payload of another type and the same size is for the frame to refuse.
#pragma once

#include "codec/simd.h"
#include "longhaul/codec/codec.h"

namespace longhaul {

class NoneCodec final : public Codec {
 public:
  explicit NoneCodec(SimdLevel level) : level_(level) {}

  const CodecSpec& spec() const override { return spec_; }
  size_t max_payload_bytes(ElementType type, size_t element_count) const override;
  size_t encode(ElementType type, ByteSpan elements, MutableByteSpan payload,
                const EncodeContext& context) override;
  Result<void> decode(ElementType type, ByteSpan payload, MutableByteSpan elements) override;
  Result<void> decode_add(ElementType type, ByteSpan payload, std::span<float> sums,
                          float scale) override;

 private:
  const CodecSpec spec_{CodecSpec::Kind::kNone};
  const SimdLevel level_;
};

}  // namespace longhaul

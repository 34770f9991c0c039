// The codec "none": the payload is the elements. It knows their bytes but not their type, so a
// payload of another type and the same size is for the frame to refuse.
#pragma once

#include "longhaul/codec/codec.h"

namespace longhaul {

class NoneCodec final : public Codec {
 public:
  const CodecSpec& spec() const override { return spec_; }
  size_t max_payload_bytes(ElementType type, size_t element_count) const override;
  size_t encode(ElementType type, ByteSpan elements, MutableByteSpan payload) override;
  Result<void> decode(ElementType type, ByteSpan payload, MutableByteSpan elements) override;

 private:
  CodecSpec spec_{CodecSpec::Kind::kNone};
};

}  // namespace longhaul

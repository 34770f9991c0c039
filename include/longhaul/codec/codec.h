// A codec turns a span of floats into payload bytes and back. It knows nothing of ranks, buckets or
// networks: wire/frame.h wraps payloads for the wire, collectives moves them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "longhaul/base/bytes.h"
#include "longhaul/base/result.h"
#include "longhaul/codec/codec_spec.h"

namespace longhaul {

// The element types that gradients have. Values are on the wire (docs/wire.md).
enum class ElementType : uint8_t { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2, kFloat64 = 3 };

// 4, 2, 2, 8.
size_t element_bytes(ElementType type);
std::string_view to_string(ElementType type);

// Thread safety: one thread at a time per object (it owns scratch memory); make one per thread.
class Codec {
 public:
  virtual ~Codec() = default;

  virtual const CodecSpec& spec() const = 0;

  // The most bytes that encode() writes for so many elements; never more than
  // raw bytes + 0.2 % + 64.
  virtual size_t max_payload_bytes(ElementType type, size_t element_count) const = 0;

  // Encodes `elements` (raw native floats; a whole number of them, possibly none) into `payload`,
  // which must not overlap them and holds at least max_payload_bytes(); returns the bytes written.
  virtual size_t encode(ElementType type, ByteSpan elements, MutableByteSpan payload) = 0;

  // Decodes exactly `elements.size()` bytes. A payload that was cut, does not hang together or was
  // made for another size or type gives kCorrupt, and nothing outside the two spans is touched,
  // whatever the bytes are. Damage that leaves a well-formed payload is seen by the frame's
  // checksum, not here. After a failure `elements` holds anything.
  virtual Result<void> decode(ElementType type, ByteSpan payload, MutableByteSpan elements) = 0;
};

// Never fails for a spec that CodecSpec::parse() returned.
std::unique_ptr<Codec> make_codec(const CodecSpec& spec);

}  // namespace longhaul

// A codec turns a span of floats into payload bytes and back. It knows nothing of networks:
// wire/frame.h wraps payloads for the wire, collectives moves them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
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

// Where elements come from. It keys the random numbers of stochastic rounding, so that a run can be
// repeated to the bit and no two roundings share a number; nothing of it is in the payload.
struct EncodeContext {
  uint64_t step = 0;
  uint32_t bucket = 0;
  uint32_t rank = 0;
  uint64_t first_element = 0;  // index, in the bucket, of the first element that is encoded
};

// Thread safety: one thread at a time per object (it owns scratch memory, whose size does not
// depend on what it codes); make one per thread.
class Codec {
 public:
  virtual ~Codec() = default;

  virtual const CodecSpec& spec() const = 0;

  // The most bytes that encode() writes for so many elements; never more than
  // raw bytes + 0.2 % + 64.
  virtual size_t max_payload_bytes(ElementType type, size_t element_count) const = 0;

  // Encodes `elements` (raw native floats at any alignment; a whole number of them, possibly none)
  // into `payload`, which must not overlap them and holds at least max_payload_bytes(); returns the
  // bytes written. The same elements and context give the same bytes on every processor.
  // Precondition: check_supports(spec(), type).
  virtual size_t encode(ElementType type, ByteSpan elements, MutableByteSpan payload,
                        const EncodeContext& context) = 0;

  // Decodes exactly `elements.size()` bytes. A payload that was cut, does not hang together or was
  // made for another size, type or kind of codec gives kCorrupt, and nothing outside the two spans
  // is touched, whatever the bytes are. Damage that leaves a well-formed payload is seen by the
  // frame's checksum, not here. After a failure `elements` holds anything.
  virtual Result<void> decode(ElementType type, ByteSpan payload, MutableByteSpan elements) = 0;

  // sums[i] += scale * element i, in fp32: the product is rounded, then the sum. What a lossy codec
  // says of 2-byte elements is not rounded to their type first; fp64 is rounded to fp32. Errors as
  // decode(); after a failure `sums` holds anything.
  virtual Result<void> decode_add(ElementType type, ByteSpan payload, std::span<float> sums,
                                  float scale) = 0;
};

// Whether codecs of this spec take such elements. Errors: kInvalid, with the types they take.
// Casts take what they can shorten and their own type; all others take every type.
Result<void> check_supports(const CodecSpec& spec, ElementType type);

// Never fails for a spec that is valid().
std::unique_ptr<Codec> make_codec(const CodecSpec& spec);

}  // namespace longhaul

// The envelope of a payload between ranks: who sent it, for which generation, step, bucket and
// chunk, and a checksum. A receiver says what it expects and gets the body, or an error that names
// the sender. Layout: docs/wire.md. Nothing in a frame is trusted before it is checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "longhaul/base/bytes.h"
#include "longhaul/base/result.h"

namespace longhaul {

// What a frame is about. Two frames of one generation never share a label.
struct FrameLabel {
  int sender = 0;  // rank
  uint64_t generation = 0;
  uint64_t step = 0;
  uint32_t bucket = 0;
  uint32_t chunk = 0;  // piece of the bucket * ranks + the rank that owns this part of the piece
  uint8_t leg = 0;     // 0: to the owner, 1: the reduced result
  uint8_t codec = 0;   // CodecSpec::Kind
  uint8_t element_type = 0;
  uint64_t element_count = 0;

  bool operator==(const FrameLabel&) const = default;
  // "rank 2, generation 1, step 17, bucket 3, chunk 0, leg 1".
  std::string str() const;
};

inline constexpr size_t kFrameHeaderBytes = 64;

// Writes the header in front of a body that already lies at frame[kFrameHeaderBytes...]; returns
// the size of the whole frame. Precondition: frame.size() >= kFrameHeaderBytes + body_bytes.
size_t seal_frame(const FrameLabel& label, size_t body_bytes, MutableByteSpan frame);

// Checks a received frame against what was expected; returns its body, a view into `frame`. Bytes
// behind the body are ignored: a receive buffer may be longer than the frame in it.
// Errors: kCorrupt (magic, version, length, checksum, unexpected label), kStale (an older
// generation). Every message names the expected sender, step and bucket.
Result<ByteSpan> open_frame(const FrameLabel& expected, ByteSpan frame);

}  // namespace longhaul

// What travels on a link: frames, each a header and up to kMaxPieceBytes behind it. A message is
// cut into pieces, so that a small or urgent frame never waits for more than one of them. Nothing
// in a frame is trusted before it is checked. Pure.
//
//   bytes  field
//    0  4  magic "LHL1"
//    4  1  kind
//    5  3  zero
//    8  8  operation: what the message belongs to; both sides know it
//   16  8  total: bytes of the whole message
//   24  8  offset: of this piece
//   32  4  length: bytes behind the header
//   36  4  zero
//   40  4  checksum of the bytes behind the header (the low half of their XXH3)
//   44  4  checksum of the header before it
#pragma once

#include <cstddef>
#include <cstdint>

#include "longhaul/base/bytes.h"
#include "longhaul/base/result.h"

namespace longhaul {

enum class FrameKind : uint8_t {
  kHello = 1,    // who calls, and the world's secret; first on every link, in both directions
  kPiece = 2,    // of a message
  kWant = 3,     // `operation` has a message that finds no room: may it come?
  kReady = 4,    // its receive is there
  kCredit = 5,   // `offset`: so many bytes of pieces, of all so far, take no room any more
  kGoodbye = 6,  // nothing comes any more
};

struct LinkFrame {
  FrameKind kind = FrameKind::kPiece;
  uint64_t operation = 0;
  uint64_t total = 0;
  uint64_t offset = 0;
  uint32_t length = 0;
  uint32_t body_checksum = 0;  // filled by read_link_header()
};

inline constexpr size_t kLinkHeaderBytes = 48;
// Large enough that headers and system calls cost nothing, small enough that an urgent frame behind
// one waits for 0.1 s at 25 Mbit/s.
inline constexpr size_t kMaxPieceBytes = size_t{256} << 10;
// Of one message. Above it a length is taken for nonsense.
inline constexpr uint64_t kMaxLinkMessageBytes = uint64_t{1} << 40;
inline constexpr size_t kLinkHelloBytes = 32;
// What a message takes of a link's window beside its bytes, so that messages of none are bounded,
// too.
inline constexpr uint64_t kMessageCost = 128;

// `body`: the bytes that go behind it; their number is the frame's length.
void write_link_header(const LinkFrame& frame, ByteSpan body, uint8_t* header);

// Errors: kCorrupt (another magic, checksum, kind, length or offset than can be).
Result<LinkFrame> read_link_header(ByteSpan header);

// What a header says of the bytes behind it.
uint32_t link_checksum(ByteSpan bytes);

}  // namespace longhaul

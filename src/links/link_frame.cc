#include "links/link_frame.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <optional>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr uint32_t kMagic = 0x314C484C;  // "LHL1"
constexpr size_t kMagicAt = 0;
constexpr size_t kKindAt = 4;
constexpr size_t kOperationAt = 8;
constexpr size_t kTotalAt = 16;
constexpr size_t kOffsetAt = 24;
constexpr size_t kLengthAt = 32;
constexpr size_t kBodyCheckAt = 40;
constexpr size_t kHeaderCheckAt = 44;
static_assert(kHeaderCheckAt + sizeof(uint32_t) == kLinkHeaderBytes);

Failure corrupt(const std::string& what) {
  return {ErrorKind::kCorrupt, "a frame's " + what};
}

// No piece is empty but the one of an empty message, so a sender of nothing at all makes progress.
std::optional<Failure> why_no_piece(const LinkFrame& frame) {
  if (frame.total > kMaxLinkMessageBytes)
    return corrupt(str_cat("message has ", frame.total, " bytes"));
  if (frame.length > kMaxPieceBytes) return corrupt(str_cat("length is ", frame.length));
  if (frame.offset > frame.total || frame.length > frame.total - frame.offset) {
    return corrupt(str_cat("piece of ", frame.length, " bytes from ", frame.offset,
                           " is not in its message of ", frame.total));
  }
  if (frame.length == 0 && frame.total > 0) return corrupt("piece is empty");
  return std::nullopt;
}

}  // namespace

uint32_t link_checksum(ByteSpan bytes) {
  return static_cast<uint32_t>(XXH3_64bits(bytes.data(), bytes.size()));
}

void write_link_header(const LinkFrame& frame, ByteSpan body, uint8_t* header) {
  std::memset(header, 0, kLinkHeaderBytes);
  store(header + kMagicAt, kMagic);
  store(header + kKindAt, static_cast<uint8_t>(frame.kind));
  store(header + kOperationAt, frame.operation);
  store(header + kTotalAt, frame.total);
  store(header + kOffsetAt, frame.offset);
  store(header + kLengthAt, static_cast<uint32_t>(body.size()));
  store(header + kBodyCheckAt, link_checksum(body));
  store(header + kHeaderCheckAt, link_checksum({header, kHeaderCheckAt}));
}

Result<LinkFrame> read_link_header(ByteSpan header) {
  const uint8_t* at = header.data();
  if (load<uint32_t>(at + kMagicAt) != kMagic) return corrupt("magic is another one");
  if (load<uint32_t>(at + kHeaderCheckAt) != link_checksum(header.first(kHeaderCheckAt))) {
    return corrupt("checksum is wrong");
  }
  const auto kind = load<uint8_t>(at + kKindAt);
  if (kind < static_cast<uint8_t>(FrameKind::kHello) ||
      kind > static_cast<uint8_t>(FrameKind::kGoodbye)) {
    return corrupt(str_cat("kind is ", static_cast<int>(kind)));
  }
  const LinkFrame frame{static_cast<FrameKind>(kind),   load<uint64_t>(at + kOperationAt),
                        load<uint64_t>(at + kTotalAt),  load<uint64_t>(at + kOffsetAt),
                        load<uint32_t>(at + kLengthAt), load<uint32_t>(at + kBodyCheckAt)};
  if (frame.kind == FrameKind::kPiece) {
    if (const auto why = why_no_piece(frame)) return *why;
    return frame;
  }
  const uint32_t wanted = frame.kind == FrameKind::kHello ? kLinkHelloBytes : 0;
  if (frame.length != wanted) return corrupt(str_cat("length is ", frame.length));
  return frame;
}

}  // namespace longhaul

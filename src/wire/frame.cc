#include "wire/frame.h"

// The header-only form: no library to find at run time, and the loop over the body is inlined.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr uint32_t kFrameMagic = 0x314D5246;  // "FRM1"
constexpr uint8_t kFrameVersion = 1;

// Where each field lies (docs/wire.md).
constexpr size_t kMagicAt = 0;
constexpr size_t kVersionAt = 4;
constexpr size_t kLegAt = 5;
constexpr size_t kCodecAt = 6;
constexpr size_t kElementTypeAt = 7;
constexpr size_t kGenerationAt = 8;
constexpr size_t kStepAt = 16;
constexpr size_t kBucketAt = 24;
constexpr size_t kChunkAt = 28;
constexpr size_t kSenderAt = 32;
constexpr size_t kReservedAt = 36;
constexpr size_t kElementCountAt = 40;
constexpr size_t kBodyBytesAt = 48;
constexpr size_t kChecksumAt = 56;
static_assert(kChecksumAt + sizeof(uint64_t) == kFrameHeaderBytes);

void write_label(const FrameLabel& label, uint8_t* header) {
  store(header + kLegAt, label.leg);
  store(header + kCodecAt, label.codec);
  store(header + kElementTypeAt, label.element_type);
  store(header + kGenerationAt, label.generation);
  store(header + kStepAt, label.step);
  store(header + kBucketAt, label.bucket);
  store(header + kChunkAt, label.chunk);
  store(header + kSenderAt, static_cast<uint32_t>(label.sender));
  store(header + kElementCountAt, label.element_count);
}

FrameLabel read_label(const uint8_t* header) {
  FrameLabel label;
  label.leg = load<uint8_t>(header + kLegAt);
  label.codec = load<uint8_t>(header + kCodecAt);
  label.element_type = load<uint8_t>(header + kElementTypeAt);
  label.generation = load<uint64_t>(header + kGenerationAt);
  label.step = load<uint64_t>(header + kStepAt);
  label.bucket = load<uint32_t>(header + kBucketAt);
  label.chunk = load<uint32_t>(header + kChunkAt);
  label.sender = static_cast<int>(load<uint32_t>(header + kSenderAt));
  label.element_count = load<uint64_t>(header + kElementCountAt);
  return label;
}

// XXH3 of the header up to the checksum, then the body.
uint64_t frame_checksum(const uint8_t* header, ByteSpan body) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, header, kChecksumAt);
  XXH3_64bits_update(&state, body.data(), body.size());
  return XXH3_64bits_digest(&state);
}

template <typename... Args>
Failure corrupt(const FrameLabel& expected, const Args&... what) {
  return {ErrorKind::kCorrupt, str_cat("frame from ", expected.str(), ": ", what...)};
}

// An older generation is told apart, because nothing is broken then: a rank of a world that is over
// is still sending.
Result<void> check_label(const FrameLabel& expected, const FrameLabel& seen) {
  if (seen.generation < expected.generation) {
    return Failure{ErrorKind::kStale,
                   str_cat("frame from ", expected.str(), ": it is of generation ", seen.generation,
                           ", which is over")};
  }
  if (seen != expected) {
    return corrupt(expected, "it calls itself ", seen.str(), ", codec ", int{seen.codec},
                   ", element type ", int{seen.element_type}, ", ", seen.element_count,
                   " elements; expected codec ", int{expected.codec}, ", element type ",
                   int{expected.element_type}, ", ", expected.element_count, " elements");
  }
  return {};
}

}  // namespace

std::string FrameLabel::str() const {
  return str_cat("rank ", sender, ", generation ", generation, ", step ", step, ", bucket ", bucket,
                 ", chunk ", chunk, ", leg ", int{leg});
}

size_t seal_frame(const FrameLabel& label, size_t body_bytes, MutableByteSpan frame) {
  LONGHAUL_CHECK(frame.size() >= kFrameHeaderBytes + body_bytes);
  uint8_t* header = frame.data();
  store(header + kMagicAt, kFrameMagic);
  store(header + kVersionAt, kFrameVersion);
  write_label(label, header);
  store(header + kReservedAt, uint32_t{0});
  store(header + kBodyBytesAt, uint64_t{body_bytes});
  const ByteSpan body = frame.subspan(kFrameHeaderBytes, body_bytes);
  store(header + kChecksumAt, frame_checksum(header, body));
  return kFrameHeaderBytes + body_bytes;
}

// The order of the checks is part of what they mean. The size of the body is compared with the
// buffer before the checksum reads it. The checksum comes before the label: a label that differs is
// then what the sender wrote, and not damage.
Result<ByteSpan> open_frame(const FrameLabel& expected, ByteSpan frame) {
  if (frame.size() < kFrameHeaderBytes) {
    return corrupt(expected, frame.size(), " bytes, a header alone has ", kFrameHeaderBytes);
  }
  const uint8_t* header = frame.data();
  if (load<uint32_t>(header + kMagicAt) != kFrameMagic) {
    return corrupt(expected, "it does not start with a frame's magic number");
  }
  if (load<uint8_t>(header + kVersionAt) != kFrameVersion) {
    return corrupt(expected, "format version ", int{header[kVersionAt]}, ", this program reads ",
                   int{kFrameVersion});
  }
  const uint64_t body_bytes = load<uint64_t>(header + kBodyBytesAt);
  if (body_bytes > frame.size() - kFrameHeaderBytes) {
    return corrupt(expected, "it declares a body of ", body_bytes, " bytes, ",
                   frame.size() - kFrameHeaderBytes, " are there");
  }
  const ByteSpan body = frame.subspan(kFrameHeaderBytes, body_bytes);
  if (load<uint64_t>(header + kChecksumAt) != frame_checksum(header, body)) {
    return corrupt(expected, "wrong checksum over ", body_bytes, " bytes of body");
  }
  if (const Result<void> checked = check_label(expected, read_label(header)); !checked) {
    return checked.failure();
  }
  return body;
}

}  // namespace longhaul

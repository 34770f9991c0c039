// What the bit-plane coder's loops share on every instruction set.
#pragma once

#include <algorithm>
#include <array>

#include "codec/bit_planes.h"
#include "codec/host_device.h"
#include "codec/prefetch.h"

namespace longhaul {

inline constexpr size_t kGroupsInBlock = kPlaneBlock / kPlaneGroup;

// The head of a block: one byte.
struct BlockHead {
  uint32_t k = 0;        // low bits sent as planes, 0 to 7
  uint32_t unary = 0;    // unary planes, 0 to 8
  bool escaped = false;  // symbols behind the last unary plane send their other bits
};

LONGHAUL_HOST_DEVICE inline uint8_t pack(const BlockHead& head) {
  return static_cast<uint8_t>(head.k | head.unary << 3 | (head.escaped ? 0x80U : 0U));
}

LONGHAUL_HOST_DEVICE inline BlockHead unpack_head(uint8_t byte) {
  return {byte & 7U, byte >> 3 & 15U, (byte & 0x80) != 0};
}

inline bool sound(const BlockHead& head) {
  return head.unary <= kUnaryPlanes && (!head.escaped || head.unary == kUnaryPlanes);
}

// From the sum of a block's magnitudes; `groups` of 64 symbols each. The thresholds are sums per
// group. One more low bit pays from a mean of 1.52 on for a Gaussian
// and 1.62 for a geometric distribution, the next from twice as much and a half. The first is taken
// a little early: the blocks of a Gaussian at a step of half its RMS have a mean of 1.58 and should
// not fall on both sides.
LONGHAUL_HOST_DEVICE inline uint32_t rice_parameter(uint32_t sum, size_t groups) {
  constexpr std::array<uint32_t, 7> kFirstSums = {92, 232, 490, 1000, 2025, 4075, 8175};
  const uint32_t per_group = sum / static_cast<uint32_t>(groups);
  uint32_t k = 0;
  for (const uint32_t first : kFirstSums) k += per_group >= first ? 1 : 0;
  return k;
}

inline constexpr uint32_t magnitude_bits(Symbols kind) {
  return kind == Symbols::kSigned ? 7 : 8;
}

template <Symbols kKind>
constexpr bool is_negative(uint8_t symbol) {
  return kKind == Symbols::kSigned && symbol >= 0x80;
}

template <Symbols kKind>
constexpr uint8_t magnitude_of(uint8_t symbol) {
  return static_cast<uint8_t>(is_negative<kKind>(symbol) ? 0 - symbol : symbol);
}

// Up to 64 bits at a time, lowest first. Stores 8 bytes whenever it is asked to put: room for that
// is the caller's.
struct BitWriter {
  uint8_t* to;
  uint64_t pending = 0;
  uint32_t pending_bits = 0;  // below 64

  // Bits of `bits` from `count` on are 0.
  void put(uint64_t bits, uint32_t count) {
    pending |= bits << pending_bits;
    store(to, pending);
    // What did not fit; two shifts because one by 64 is undefined.
    const uint64_t rest = bits >> 1 >> (63 - pending_bits);
    const uint32_t total = pending_bits + count;
    // Whether the word is full is a coin toss: arithmetic instead of a branch.
    const uint64_t full = uint64_t{0} - (total >> 6);
    pending = (rest & full) | (pending & ~full);
    to += total >> 6 << 3;
    pending_bits = total & 63;
  }

  uint8_t* finish() {
    store(to, pending);
    return to + (pending_bits + 7) / 8;
  }
};

// 64 bits from any bit on; reads 9 bytes.
inline uint64_t bits_at(const uint8_t* from, size_t bit) {
  const uint8_t* byte = from + (bit >> 3);
  const auto shift = static_cast<uint32_t>(bit & 7);
  return load<uint64_t>(byte) >> shift | uint64_t{byte[8]} << 1 << (63 - shift);
}

// The part of `soon` (bit_planes.h) that belongs to a block.
inline void prefetch_block(const void* soon, size_t block) {
  constexpr size_t kBytes = kPlaneBlock * sizeof(float);
  if (soon == nullptr) return;
  for (size_t line = 0; line < kBytes; line += 64) prefetch(soon, block * kBytes + line);
}

// The most bytes of one block without its head: 7 + 1 whole planes, 7 + 8 + 1 thinned ones; and the
// most that a decoder may touch from its start.
inline constexpr size_t kMostBlockBytes = 3 * kPlaneBlock;
inline constexpr size_t kBlockReach = kMostBlockBytes + 16;

// Blocks are decoded where they stand while the most that one may touch is there; the last few from
// a copy with zeros behind it. That way no block checks its reads.
class BlockReader {
 public:
  explicit BlockReader(ByteSpan bodies) : at_(bodies.data()), end_(at_ + bodies.size()) {}

  const uint8_t* next() {
    const auto left = static_cast<size_t>(end_ - at_);
    if (left < kBlockReach && !copied_) {
      std::copy(at_, end_, copy_.data());
      at_ = copy_.data();
      end_ = at_ + left;
      copied_ = true;
    }
    return at_;
  }
  // False when the block that ends there was longer than what is left.
  bool advance(const uint8_t* block_end) {
    if (block_end > end_) return false;
    at_ = block_end;
    return true;
  }
  bool at_end() const { return at_ == end_; }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
  bool copied_ = false;
  std::array<uint8_t, 2 * kBlockReach> copy_{};
};

}  // namespace longhaul

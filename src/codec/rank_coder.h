// Bytes as ranks, Rice coded: the commonest byte becomes 0, the next 1, and so on, and the
// bit-plane coder (bit_planes.h) does the rest. Exponents of gradients fall by about half from one
// rank to the next, which is what unary codes are made for: 0.1 to 0.2 bits above the entropy, at
// several times the speed of Huffman codes. The table comes from a sample and travels with the
// plane.
#pragma once

#include <array>

#include "codec/scratch.h"
#include "codec/simd.h"
#include "longhaul/base/bytes.h"

namespace longhaul {

// How often each byte was seen in a sample.
using ByteCounts = std::array<uint16_t, 256>;

// A permutation of all bytes by rank. The listed ones were seen in the sample; all others follow by
// their distance from the commonest, so that they need not be listed.
struct RankTable {
  std::array<uint8_t, 256> by_rank{};
  size_t listed = 0;  // 1 to 255
};

// Shannon's entropy, bits per byte. Precondition here and below: some count is not 0.
float entropy_bits(const ByteCounts& counts);
RankTable make_rank_table(const ByteCounts& counts);
// What Rice codes of ranks would take for such bytes, bits per byte.
float rank_coded_bits(const ByteCounts& counts, const RankTable& table);

// Thread safety: one thread at a time.
class RankCoder {
 public:
  // For planes of up to `most_bytes`.
  RankCoder(size_t most_bytes, SimdLevel level);

  // `to` holds most_bit_plane_bytes(plane.size()) + 256 bytes. Returns the bytes written. `soon` is
  // that of bit_planes.h.
  size_t encode(const RankTable& table, ByteSpan plane, uint8_t* to, const void* soon = nullptr);
  // False when `stored` is not what encode() writes for so many bytes.
  bool decode(ByteSpan stored, MutableByteSpan plane, const void* soon = nullptr);

 private:
  const SimdLevel level_;
  Scratch ranks_;
};

}  // namespace longhaul

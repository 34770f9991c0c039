#include "codec/rank_coder.h"

#include <algorithm>
#include <cmath>

#include "codec/bit_planes.h"
#include "codec/byte_map.h"

namespace longhaul {
namespace {

// Fills in what is not listed: by distance from the commonest byte, the lower of two first. Both
// sides do this, so the order is part of the format (docs/wire.md).
void complete(RankTable& table) {
  const int centre = table.by_rank[0];
  std::array<bool, 256> listed{};
  for (size_t rank = 0; rank < table.listed; ++rank) listed[table.by_rank[rank]] = true;
  size_t rank = table.listed;
  const auto append = [&](int byte) {
    if (byte < 0 || byte > 255 || listed[static_cast<size_t>(byte)]) return;
    table.by_rank[rank++] = static_cast<uint8_t>(byte);
  };
  for (int distance = 1; distance < 256; ++distance) {
    append(centre - distance);
    append(centre + distance);
  }
}

// Bits of a Rice code of `rank`: k low bits and a unary rest, or 8 unary planes and then the
// quotient itself in 8 - k bits.
uint32_t rice_bits(uint32_t rank, uint32_t k) {
  const uint32_t unary = rank >> k;
  return unary < kUnaryPlanes ? k + unary + 1 : k + kUnaryPlanes + (8 - k);
}

}  // namespace

float entropy_bits(const ByteCounts& counts) {
  float total = 0;
  float sum = 0;
  for (const uint16_t count : counts) {
    if (count == 0) continue;
    total += static_cast<float>(count);
    sum += static_cast<float>(count) * std::log2(static_cast<float>(count));
  }
  return std::log2(total) - sum / total;
}

RankTable make_rank_table(const ByteCounts& counts) {
  RankTable table;
  for (size_t byte = 0; byte < counts.size(); ++byte) {
    if (counts[byte] > 0) table.by_rank[table.listed++] = static_cast<uint8_t>(byte);
  }
  std::sort(table.by_rank.begin(), table.by_rank.begin() + table.listed, [&](uint8_t a, uint8_t b) {
    return counts[a] != counts[b] ? counts[a] > counts[b] : a < b;
  });
  // Their number travels in one byte. The 256th needs no place in a list: it is the one left over.
  table.listed = std::min<size_t>(table.listed, 255);
  complete(table);
  return table;
}

// An estimate: with the one k that is best for the whole sample, while the coder chooses k for each
// block.
float rank_coded_bits(const ByteCounts& counts, const RankTable& table) {
  uint32_t total = 0;
  for (const uint16_t count : counts) total += count;
  uint32_t best = UINT32_MAX;
  for (uint32_t k = 0; k < 8; ++k) {
    uint32_t bits = 0;
    for (uint32_t rank = 0; rank < table.listed; ++rank) {
      bits += counts[table.by_rank[rank]] * rice_bits(rank, k);
    }
    best = std::min(best, bits);
  }
  return static_cast<float>(best) / static_cast<float>(total);
}

RankCoder::RankCoder(size_t most_bytes, SimdLevel level)
    : level_(level), ranks_((most_bytes + kPlaneGroup - 1) / kPlaneGroup * kPlaneGroup) {}

size_t RankCoder::encode(const RankTable& table, ByteSpan plane, uint8_t* to, const void* soon) {
  *to = static_cast<uint8_t>(table.listed);
  std::copy_n(table.by_rank.begin(), table.listed, to + 1);
  std::array<uint8_t, 256> rank_of{};
  for (size_t rank = 0; rank < 256; ++rank) {
    rank_of[table.by_rank[rank]] = static_cast<uint8_t>(rank);
  }
  map_bytes(level_, rank_of, plane.data(), plane.size(), ranks_.get());
  std::fill_n(ranks_.get() + plane.size(), (kPlaneGroup - plane.size() % kPlaneGroup) % kPlaneGroup,
              uint8_t{0});
  return 1 + table.listed +
         encode_bit_planes(level_, Symbols::kUnsigned, ranks_.get(), plane.size(),
                           to + 1 + table.listed, soon);
}

bool RankCoder::decode(ByteSpan stored, MutableByteSpan plane, const void* soon) {
  // A byte listed twice would leave another one without a rank.
  if (stored.empty() || stored[0] == 0 || stored.size() < 1U + stored[0]) return false;
  RankTable table;
  table.listed = stored[0];
  std::array<bool, 256> seen{};
  for (size_t rank = 0; rank < table.listed; ++rank) {
    table.by_rank[rank] = stored[1 + rank];
    if (seen[stored[1 + rank]]) return false;
    seen[stored[1 + rank]] = true;
  }
  complete(table);
  if (!decode_bit_planes(level_, Symbols::kUnsigned, stored.subspan(1 + table.listed), plane.size(),
                         ranks_.get(), soon)) {
    return false;
  }
  map_bytes(level_, table.by_rank, ranks_.get(), plane.size(), plane.data());
  return true;
}

}  // namespace longhaul

#include "codec/bit_planes.h"

#include <bit>

#include "codec/bit_planes_parts.h"
#include "codec/bit_planes_x86.h"

namespace longhaul {
namespace {

namespace scalar {

// The reference: every other level must give the same bytes, and tests compare them.
struct Group {
  std::array<uint8_t, kPlaneGroup> symbols;
};

struct Statistics {
  uint32_t sum = 0;
  uint32_t most = 0;
};

Group zero_group() {
  return {};
}

Group load_group(const uint8_t* from) {
  Group group;
  std::copy_n(from, kPlaneGroup, group.symbols.data());
  return group;
}

void store_group(const Group& group, uint8_t* to) {
  std::copy_n(group.symbols.data(), kPlaneGroup, to);
}

template <typename Test>
uint64_t plane_of(const Group& group, const Test& test) {
  uint64_t plane = 0;
  for (size_t i = 0; i < kPlaneGroup; ++i) {
    plane |= uint64_t{test(group.symbols[i]) ? 1U : 0U} << i;
  }
  return plane;
}

template <typename Change>
Group change_where(uint64_t plane, Group group, const Change& change) {
  for (size_t i = 0; i < kPlaneGroup; ++i) {
    if ((plane >> i & 1) != 0) group.symbols[i] = static_cast<uint8_t>(change(group.symbols[i]));
  }
  return group;
}

int negated(uint8_t symbol) {
  return -symbol;
}

uint64_t signs(const Group& group) {
  return plane_of(group, [](uint8_t symbol) { return symbol >= 0x80; });
}

Group magnitude(const Group& group) {
  return change_where(signs(group), group, negated);
}

uint64_t bit_plane(const Group& group, uint32_t bit) {
  return plane_of(group, [bit](uint8_t symbol) { return (symbol >> bit & 1) != 0; });
}

uint64_t not_zero(const Group& group) {
  return plane_of(group, [](uint8_t symbol) { return symbol != 0; });
}

uint64_t at_least(const Group& group, uint32_t threshold) {
  return plane_of(group, [threshold](uint8_t symbol) { return symbol >= threshold; });
}

Group add_where(uint64_t plane, const Group& group, uint8_t value) {
  return change_where(plane, group, [value](uint8_t symbol) { return symbol + value; });
}

Group negate_where(uint64_t plane, const Group& group) {
  return change_where(plane, group, negated);
}

void accumulate(Statistics& seen, const Group& group) {
  for (const uint8_t symbol : group.symbols) {
    seen.sum += symbol;
    seen.most = std::max<uint32_t>(seen.most, symbol);
  }
}

uint32_t sum_of(const Statistics& seen) {
  return seen.sum;
}

uint32_t max_of(const Statistics& seen) {
  return seen.most;
}

uint32_t ones(uint64_t plane) {
  return static_cast<uint32_t>(std::popcount(plane));
}

uint32_t lowest(uint64_t plane) {
  return static_cast<uint32_t>(std::countr_zero(plane));
}

uint64_t thin(uint64_t plane, uint64_t kept) {
  uint64_t bits = 0;
  for (uint32_t at = 0; kept != 0; kept &= kept - 1, ++at) {
    bits |= (plane >> std::countr_zero(kept) & 1) << at;
  }
  return bits;
}

uint64_t spread(uint64_t bits, uint64_t to) {
  uint64_t plane = 0;
  for (; to != 0; to &= to - 1, bits >>= 1) plane |= (bits & 1) << std::countr_zero(to);
  return plane;
}

#define LONGHAUL_KERNEL
#include "codec/bit_planes_body.inc"
#undef LONGHAUL_KERNEL

}  // namespace scalar
}  // namespace

size_t encode_bit_planes(SimdLevel level, Symbols kind, const uint8_t* symbols, size_t count,
                         uint8_t* to, const void* soon) {
#if defined(__x86_64__)
  if (level == SimdLevel::kAvx512) return encode_bit_planes_avx512(kind, symbols, count, to, soon);
  if (level == SimdLevel::kAvx2) return encode_bit_planes_avx2(kind, symbols, count, to, soon);
#endif
  return scalar::encode_symbols(kind, symbols, count, to, soon);
}

bool decode_bit_planes(SimdLevel level, Symbols kind, ByteSpan stored, size_t count,
                       uint8_t* symbols, const void* soon) {
#if defined(__x86_64__)
  if (level == SimdLevel::kAvx512)
    return decode_bit_planes_avx512(kind, stored, count, symbols, soon);
  if (level == SimdLevel::kAvx2) return decode_bit_planes_avx2(kind, stored, count, symbols, soon);
#endif
  return scalar::decode_symbols(kind, stored, count, symbols, soon);
}

}  // namespace longhaul

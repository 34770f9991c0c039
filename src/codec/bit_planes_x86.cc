// A plane of 64 symbols is an AVX-512 mask; with AVX2 it is the sign bits of two vectors of bytes.
#include "codec/bit_planes_x86.h"

#if defined(__x86_64__)

// g++ 12 takes the don't-care operands inside its own intrinsics for uninitialized (GCC bug
// 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include "codec/bit_planes_parts.h"

namespace longhaul {
namespace {

LONGHAUL_AVX2 inline uint32_t ones(uint64_t plane) {
  return static_cast<uint32_t>(_mm_popcnt_u64(plane));
}
LONGHAUL_AVX2 inline uint32_t lowest(uint64_t plane) {
  return static_cast<uint32_t>(_tzcnt_u64(plane));
}
LONGHAUL_AVX2 inline uint64_t thin(uint64_t plane, uint64_t kept) {
  return _pext_u64(plane, kept);
}
LONGHAUL_AVX2 inline uint64_t spread(uint64_t bits, uint64_t to) {
  return _pdep_u64(bits, to);
}

LONGHAUL_AVX2 inline uint32_t sum_of_quarters(__m256i sums) {
  const __m128i two =
      _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  return static_cast<uint32_t>(_mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two))));
}

LONGHAUL_AVX2 inline uint32_t max_of_bytes(__m256i bytes) {
  const __m128i half =
      _mm_max_epu8(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
  // SSE4.1 has an instruction for the smallest of 8 words and none for the largest, so it is asked
  // for the smallest complement. The upper bytes have been merged into the lower ones before.
  const __m128i words = _mm_max_epu8(half, _mm_srli_epi16(half, 8));
  const __m128i inverted =
      _mm_xor_si128(_mm_and_si128(words, _mm_set1_epi16(0xFF)), _mm_set1_epi16(0xFF));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(inverted)) & 0xFF) ^ 0xFFU;
}

namespace avx2 {
#define LONGHAUL_KERNEL LONGHAUL_AVX2

struct Group {
  __m256i first;
  __m256i second;
};

struct Statistics {
  __m256i sums;
  __m256i most;
};

LONGHAUL_KERNEL inline Group zero_group() {
  return {_mm256_setzero_si256(), _mm256_setzero_si256()};
}

LONGHAUL_KERNEL inline Group load_group(const uint8_t* from) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32))};
}

LONGHAUL_KERNEL inline void store_group(Group group, uint8_t* to) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), group.first);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), group.second);
}

LONGHAUL_KERNEL inline uint64_t top_bits(__m256i first, __m256i second) {
  return static_cast<uint32_t>(_mm256_movemask_epi8(first)) |
         uint64_t{static_cast<uint32_t>(_mm256_movemask_epi8(second))} << 32;
}

LONGHAUL_KERNEL inline uint64_t signs(Group group) {
  return top_bits(group.first, group.second);
}

LONGHAUL_KERNEL inline Group magnitude(Group group) {
  return {_mm256_abs_epi8(group.first), _mm256_abs_epi8(group.second)};
}

// The bit is shifted to the top of its byte, where movemask reads it. AVX2 can only shift words of
// 16 bits; what crosses from the lower byte into the upper one stays below that top bit.
LONGHAUL_KERNEL inline uint64_t bit_plane(Group group, uint32_t bit) {
  const __m128i up = _mm_cvtsi32_si128(static_cast<int>(7 - bit));
  return top_bits(_mm256_sll_epi16(group.first, up), _mm256_sll_epi16(group.second, up));
}

LONGHAUL_KERNEL inline uint64_t not_zero(Group group) {
  const __m256i zero = _mm256_setzero_si256();
  return ~top_bits(_mm256_cmpeq_epi8(group.first, zero), _mm256_cmpeq_epi8(group.second, zero));
}

// AVX2 compares signed bytes only. Unsigned, x >= t where max(x, t) == x.
LONGHAUL_KERNEL inline uint64_t at_least(Group group, uint32_t threshold) {
  const __m256i least = _mm256_set1_epi8(static_cast<char>(threshold));
  return top_bits(_mm256_cmpeq_epi8(_mm256_max_epu8(group.first, least), group.first),
                  _mm256_cmpeq_epi8(_mm256_max_epu8(group.second, least), group.second));
}

// 0xFF in each byte whose bit is set: the plane's byte goes to all eight bytes that its bits are
// for, and each of these keeps its own bit.
LONGHAUL_KERNEL inline __m256i bytes_of(uint32_t plane) {
  const __m256i source = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                          2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i bits = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i spread_out =
      _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(plane)), source);
  return _mm256_cmpeq_epi8(_mm256_and_si256(spread_out, bits), bits);
}

LONGHAUL_KERNEL inline Group mask_of(uint64_t plane) {
  return {bytes_of(static_cast<uint32_t>(plane)), bytes_of(static_cast<uint32_t>(plane >> 32))};
}

LONGHAUL_KERNEL inline Group add_where(uint64_t plane, Group group, uint8_t value) {
  const Group mask = mask_of(plane);
  const __m256i values = _mm256_set1_epi8(static_cast<char>(value));
  return {_mm256_add_epi8(group.first, _mm256_and_si256(mask.first, values)),
          _mm256_add_epi8(group.second, _mm256_and_si256(mask.second, values))};
}

// Two's complement: inverting all bits (mask 0xFF) and subtracting -1 negates; with mask 0 nothing
// changes.
LONGHAUL_KERNEL inline Group negate_where(uint64_t plane, Group group) {
  const Group mask = mask_of(plane);
  return {_mm256_sub_epi8(_mm256_xor_si256(group.first, mask.first), mask.first),
          _mm256_sub_epi8(_mm256_xor_si256(group.second, mask.second), mask.second)};
}

LONGHAUL_KERNEL inline void accumulate(Statistics& seen, Group group) {
  const __m256i zero = _mm256_setzero_si256();
  seen.sums = _mm256_add_epi64(seen.sums, _mm256_add_epi64(_mm256_sad_epu8(group.first, zero),
                                                           _mm256_sad_epu8(group.second, zero)));
  seen.most = _mm256_max_epu8(seen.most, _mm256_max_epu8(group.first, group.second));
}

LONGHAUL_KERNEL inline uint32_t sum_of(const Statistics& seen) {
  return sum_of_quarters(seen.sums);
}

LONGHAUL_KERNEL inline uint32_t max_of(const Statistics& seen) {
  return max_of_bytes(seen.most);
}

#include "codec/bit_planes_body.inc"
#undef LONGHAUL_KERNEL
}  // namespace avx2

namespace avx512 {
#define LONGHAUL_KERNEL LONGHAUL_AVX512

using Group = __m512i;

struct Statistics {
  __m512i sums;
  __m512i most;
};

LONGHAUL_KERNEL inline Group zero_group() {
  return _mm512_setzero_si512();
}

LONGHAUL_KERNEL inline Group load_group(const uint8_t* from) {
  return _mm512_loadu_si512(from);
}

LONGHAUL_KERNEL inline void store_group(Group group, uint8_t* to) {
  _mm512_storeu_si512(to, group);
}

LONGHAUL_KERNEL inline uint64_t signs(Group group) {
  return _mm512_movepi8_mask(group);
}

LONGHAUL_KERNEL inline Group magnitude(Group group) {
  return _mm512_abs_epi8(group);
}

LONGHAUL_KERNEL inline uint64_t bit_plane(Group group, uint32_t bit) {
  return _mm512_test_epi8_mask(group, _mm512_set1_epi8(static_cast<char>(1U << bit)));
}

LONGHAUL_KERNEL inline uint64_t not_zero(Group group) {
  return _mm512_test_epi8_mask(group, group);
}

LONGHAUL_KERNEL inline uint64_t at_least(Group group, uint32_t threshold) {
  return _mm512_cmpge_epu8_mask(group, _mm512_set1_epi8(static_cast<char>(threshold)));
}

LONGHAUL_KERNEL inline Group add_where(uint64_t plane, Group group, uint8_t value) {
  return _mm512_mask_add_epi8(group, plane, group, _mm512_set1_epi8(static_cast<char>(value)));
}

LONGHAUL_KERNEL inline Group negate_where(uint64_t plane, Group group) {
  return _mm512_mask_sub_epi8(group, plane, _mm512_setzero_si512(), group);
}

LONGHAUL_KERNEL inline void accumulate(Statistics& seen, Group group) {
  seen.sums = _mm512_add_epi64(seen.sums, _mm512_sad_epu8(group, _mm512_setzero_si512()));
  seen.most = _mm512_max_epu8(seen.most, group);
}

LONGHAUL_KERNEL inline uint32_t sum_of(const Statistics& seen) {
  return sum_of_quarters(
      _mm256_add_epi64(_mm512_castsi512_si256(seen.sums), _mm512_extracti64x4_epi64(seen.sums, 1)));
}

LONGHAUL_KERNEL inline uint32_t max_of(const Statistics& seen) {
  return max_of_bytes(
      _mm256_max_epu8(_mm512_castsi512_si256(seen.most), _mm512_extracti64x4_epi64(seen.most, 1)));
}

#include "codec/bit_planes_body.inc"
#undef LONGHAUL_KERNEL
}  // namespace avx512

}  // namespace

size_t encode_bit_planes_avx2(Symbols kind, const uint8_t* symbols, size_t count, uint8_t* to,
                              const void* soon) {
  return avx2::encode_symbols(kind, symbols, count, to, soon);
}

bool decode_bit_planes_avx2(Symbols kind, ByteSpan stored, size_t count, uint8_t* symbols,
                            const void* soon) {
  return avx2::decode_symbols(kind, stored, count, symbols, soon);
}

size_t encode_bit_planes_avx512(Symbols kind, const uint8_t* symbols, size_t count, uint8_t* to,
                                const void* soon) {
  return avx512::encode_symbols(kind, symbols, count, to, soon);
}

bool decode_bit_planes_avx512(Symbols kind, ByteSpan stored, size_t count, uint8_t* symbols,
                              const void* soon) {
  return avx512::decode_symbols(kind, stored, count, symbols, soon);
}

}  // namespace longhaul

#endif

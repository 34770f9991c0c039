#include "codec/byte_map.h"

#if defined(__x86_64__)

// g++ 12 takes the don't-care operands inside its own intrinsics for uninitialized (GCC bug
// 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>
#endif

namespace longhaul {
namespace {

#if defined(__x86_64__)
// Sixteen tables of 16 bytes. An index whose upper half is the table's becomes 0x70 to 0x7F, which
// picks a byte; all others saturate above 0x7F, which gives 0.
LONGHAUL_AVX2 size_t map_avx2(const uint8_t* table, const uint8_t* from, size_t count,
                              uint8_t* to) {
  const __m256i bias = _mm256_set1_epi8(0x70);
  size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    __m256i mapped = _mm256_setzero_si256();
#pragma GCC unroll 16
    for (int part = 0; part < 16; ++part) {
      const auto* entries = reinterpret_cast<const __m128i*>(table + part * 16);
      const __m256i index = _mm256_adds_epu8(
          _mm256_xor_si256(bytes, _mm256_set1_epi8(static_cast<char>(part * 16))), bias);
      mapped = _mm256_or_si256(
          mapped,
          _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(entries)), index));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), mapped);
  }
  return i;
}

LONGHAUL_AVX512 size_t map_avx512(const uint8_t* table, const uint8_t* from, size_t count,
                                  uint8_t* to) {
  const __m512i quarters[] = {_mm512_loadu_si512(table), _mm512_loadu_si512(table + 64),
                              _mm512_loadu_si512(table + 128), _mm512_loadu_si512(table + 192)};
  size_t i = 0;
  for (; i + 64 <= count; i += 64) {
    const __m512i bytes = _mm512_loadu_si512(from + i);
    const __m512i low = _mm512_permutex2var_epi8(quarters[0], bytes, quarters[1]);
    const __m512i high = _mm512_permutex2var_epi8(quarters[2], bytes, quarters[3]);
    _mm512_storeu_si512(to + i, _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), low, high));
  }
  return i;
}
#endif

}  // namespace

void map_bytes(SimdLevel level, const std::array<uint8_t, 256>& table, const uint8_t* from,
               size_t count, uint8_t* to) {
  size_t i = 0;
#if defined(__x86_64__)
  if (level == SimdLevel::kAvx2) i = map_avx2(table.data(), from, count, to);
  if (level == SimdLevel::kAvx512) i = map_avx512(table.data(), from, count, to);
#endif
  for (; i < count; ++i) to[i] = table[from[i]];
}

}  // namespace longhaul

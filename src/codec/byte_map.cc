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
  if (level == SimdLevel::kAvx512) i = map_avx512(table.data(), from, count, to);
#endif
  for (; i < count; ++i) to[i] = table[from[i]];
}

}  // namespace longhaul

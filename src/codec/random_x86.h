// random_bits() for 8 elements at once.
#pragma once

#if defined(__x86_64__)

#include <immintrin.h>

#include "codec/rounding_random.h"
#include "codec/simd.h"

namespace longhaul {

LONGHAUL_AVX2 inline __m256i random_bits_avx2(const RoundingKey& key, __m256i index) {
  __m256i hash =
      _mm256_add_epi32(_mm256_mullo_epi32(index, _mm256_set1_epi32(static_cast<int>(kIndexFactor))),
                       _mm256_set1_epi32(static_cast<int>(key.start)));
  hash = _mm256_xor_si256(hash, _mm256_srli_epi32(hash, 16));
  hash =
      _mm256_xor_si256(_mm256_mullo_epi32(hash, _mm256_set1_epi32(static_cast<int>(kFirstFactor))),
                       _mm256_set1_epi32(static_cast<int>(key.middle)));
  hash = _mm256_xor_si256(hash, _mm256_srli_epi32(hash, 15));
  hash = _mm256_mullo_epi32(hash, _mm256_set1_epi32(static_cast<int>(kSecondFactor)));
  return _mm256_xor_si256(hash, _mm256_srli_epi32(hash, 16));
}

LONGHAUL_AVX2 inline __m256i indices_from_avx2(uint32_t first) {
  return _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(first)),
                          _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

}  // namespace longhaul

#endif

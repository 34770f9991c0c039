// 64 elements at a time: four vectors of AVX-512, eight of AVX2, each a fixed set of the 64 lanes
// that sums are bound to.
#include "codec/quantize_x86.h"

#if defined(__x86_64__)

// g++ 12 takes the don't-care operands inside its own intrinsics for uninitialized (GCC bug
// 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <cstring>

#include "codec/prefetch.h"
#include "codec/random_x86.h"

namespace longhaul {
namespace {

// The last 8 lanes of a sum, halved three times: the order of additions that quantize.h prescribes.
LONGHAUL_AVX2 inline float sum_of_lanes(__m256 lanes) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}

LONGHAUL_AVX2 inline uint32_t max_of_lanes(__m256i lanes) {
  __m128i four = _mm_max_epu32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  four = _mm_max_epu32(four, _mm_unpackhi_epi64(four, four));
  four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(four));
}

namespace avx2 {
#define LONGHAUL_KERNEL LONGHAUL_AVX2

constexpr size_t kVectors = kSumLanes / 8;

LONGHAUL_KERNEL inline __m256 elements_at(const uint8_t* x, size_t i) {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(x) + i);
}

LONGHAUL_KERNEL inline BlockStatistics block_statistics(const uint8_t* x, size_t n) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  __m256 sums[kVectors];
  __m256i largest[kVectors];
#pragma GCC unroll 8
  for (size_t v = 0; v < kVectors; ++v) {
    sums[v] = _mm256_setzero_ps();
    largest[v] = _mm256_setzero_si256();
  }
  for (size_t i = 0; i < n; i += kSumLanes) {
#pragma GCC unroll 8
    for (size_t v = 0; v < kVectors; ++v) {
      const __m256 value = elements_at(x, i + v * 8);
      // Two vectors are one cache line.
      if (v % 2 == 0) prefetch(x + (i + v * 8) * sizeof(float), kReadAheadBytes);
      sums[v] = _mm256_add_ps(sums[v], _mm256_mul_ps(value, value));
      largest[v % 2] =
          _mm256_max_epu32(largest[v % 2], _mm256_castps_si256(_mm256_and_ps(value, magnitude)));
    }
  }
#pragma GCC unroll 8
  for (size_t half = kVectors / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (size_t v = 0; v < half; ++v) sums[v] = _mm256_add_ps(sums[v], sums[v + half]);
  }
  return {sum_of_lanes(sums[0]), max_of_lanes(_mm256_max_epu32(largest[0], largest[1]))};
}

// 32 codes of four vectors of whole numbers. Packing saturates to -128, which is no code, so that
// is raised to -127. Numbers are never far beyond 127, because a step is at least the largest
// magnitude / 127. Packing works within lanes; the permutation puts the codes back in order.
LONGHAUL_KERNEL inline void store_codes(const __m256i* whole, int8_t* codes) {
  const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]),
                                            _mm256_packs_epi32(whole[2], whole[3]));
  const __m256i ordered =
      _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes),
                      _mm256_max_epi8(ordered, _mm256_set1_epi8(-127)));
}

LONGHAUL_KERNEL inline void round_nearest(const uint8_t* x, size_t n, float inverse,
                                          int8_t* codes) {
  const __m256 factor = _mm256_set1_ps(inverse);
  for (size_t i = 0; i < n; i += 32) {
    __m256i whole[4];
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) {
      whole[v] = _mm256_cvtps_epi32(_mm256_mul_ps(elements_at(x, i + v * 8), factor));
    }
    store_codes(whole, codes + i);
  }
}

LONGHAUL_KERNEL inline void round_stochastic(const uint8_t* x, size_t n, float inverse,
                                             const RoundingKey& key, uint32_t first,
                                             int8_t* codes) {
  const __m256 factor = _mm256_set1_ps(inverse);
  const __m256 unit = _mm256_set1_ps(0x1p-24F);
  __m256i index = indices_from_avx2(first);
  for (size_t i = 0; i < n; i += 32) {
    __m256i whole[4];
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) {
      const __m256i random = _mm256_srli_epi32(random_bits_avx2(key, index), 8);
      const __m256 fraction = _mm256_mul_ps(_mm256_cvtepi32_ps(random), unit);
      const __m256 value = _mm256_mul_ps(elements_at(x, i + v * 8), factor);
      whole[v] = _mm256_cvttps_epi32(_mm256_floor_ps(_mm256_add_ps(value, fraction)));
      index = _mm256_add_epi32(index, _mm256_set1_epi32(8));
    }
    store_codes(whole, codes + i);
  }
}

LONGHAUL_KERNEL inline __m256 values_at(const int8_t* codes, size_t i, __m256 step) {
  const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i));
  return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight)), step);
}

LONGHAUL_KERNEL inline void multiply(const int8_t* codes, size_t n, float step, uint8_t* elements) {
  const __m256 factor = _mm256_set1_ps(step);
#pragma GCC unroll 4
  for (size_t i = 0; i < n; i += 8) {
    _mm256_storeu_ps(reinterpret_cast<float*>(elements) + i, values_at(codes, i, factor));
  }
}

LONGHAUL_KERNEL inline void multiply_add(const int8_t* codes, size_t n, float step, float scale,
                                         float* sums) {
  const __m256 factor = _mm256_set1_ps(step);
  const __m256 scales = _mm256_set1_ps(scale);
#pragma GCC unroll 4
  for (size_t i = 0; i < n; i += 8) {
    const __m256 value = _mm256_mul_ps(values_at(codes, i, factor), scales);
    _mm256_storeu_ps(sums + i, _mm256_add_ps(_mm256_loadu_ps(sums + i), value));
  }
}

#include "codec/quantize_body.inc"
#undef LONGHAUL_KERNEL
}  // namespace avx2

namespace avx512 {
#define LONGHAUL_KERNEL LONGHAUL_AVX512

LONGHAUL_KERNEL inline __m512 elements_at(const uint8_t* x, size_t i) {
  return _mm512_loadu_ps(x + i * sizeof(float));
}

LONGHAUL_KERNEL inline BlockStatistics block_statistics(const uint8_t* x, size_t n) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  __m512 sums[4];
  __m512i largest[4];
#pragma GCC unroll 4
  for (size_t v = 0; v < 4; ++v) {
    sums[v] = _mm512_setzero_ps();
    largest[v] = _mm512_setzero_si512();
  }
  for (size_t i = 0; i < n; i += kSumLanes) {
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) {
      const __m512 value = elements_at(x, i + v * 16);
      prefetch(x + (i + v * 16) * sizeof(float), kReadAheadBytes);
      sums[v] = _mm512_add_ps(sums[v], _mm512_mul_ps(value, value));
      largest[v] =
          _mm512_max_epu32(largest[v], _mm512_and_si512(_mm512_castps_si512(value), magnitude));
    }
  }
  // Lanes 32-63 to lanes 0-31, then 16-31 to 0-15: the prescribed order. For maxima any order will
  // do.
  const __m512 sum =
      _mm512_add_ps(_mm512_add_ps(sums[0], sums[2]), _mm512_add_ps(sums[1], sums[3]));
  const __m512i most = _mm512_max_epu32(_mm512_max_epu32(largest[0], largest[1]),
                                        _mm512_max_epu32(largest[2], largest[3]));
  return {sum_of_lanes(_mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1))),
          max_of_lanes(
              _mm256_max_epu32(_mm512_castsi512_si256(most), _mm512_extracti64x4_epi64(most, 1)))};
}

// 64 codes of four vectors of whole numbers, as above.
LONGHAUL_KERNEL inline void store_codes(const __m512i* whole, int8_t* codes) {
  const __m512i packed = _mm512_packs_epi16(_mm512_packs_epi32(whole[0], whole[1]),
                                            _mm512_packs_epi32(whole[2], whole[3]));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(
      codes, _mm512_max_epi8(_mm512_permutexvar_epi32(order, packed), _mm512_set1_epi8(-127)));
}

LONGHAUL_KERNEL inline void round_nearest(const uint8_t* x, size_t n, float inverse,
                                          int8_t* codes) {
  const __m512 factor = _mm512_set1_ps(inverse);
  for (size_t i = 0; i < n; i += 64) {
    __m512i whole[4];
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) {
      whole[v] = _mm512_cvtps_epi32(_mm512_mul_ps(elements_at(x, i + v * 16), factor));
    }
    store_codes(whole, codes + i);
  }
}

LONGHAUL_KERNEL inline __m512i random_vector(const RoundingKey& key, __m512i index) {
  __m512i hash =
      _mm512_add_epi32(_mm512_mullo_epi32(index, _mm512_set1_epi32(static_cast<int>(kIndexFactor))),
                       _mm512_set1_epi32(static_cast<int>(key.start)));
  hash = _mm512_xor_si512(hash, _mm512_srli_epi32(hash, 16));
  hash =
      _mm512_xor_si512(_mm512_mullo_epi32(hash, _mm512_set1_epi32(static_cast<int>(kFirstFactor))),
                       _mm512_set1_epi32(static_cast<int>(key.middle)));
  hash = _mm512_xor_si512(hash, _mm512_srli_epi32(hash, 15));
  hash = _mm512_mullo_epi32(hash, _mm512_set1_epi32(static_cast<int>(kSecondFactor)));
  return _mm512_xor_si512(hash, _mm512_srli_epi32(hash, 16));
}

LONGHAUL_KERNEL inline void round_stochastic(const uint8_t* x, size_t n, float inverse,
                                             const RoundingKey& key, uint32_t first,
                                             int8_t* codes) {
  const __m512 factor = _mm512_set1_ps(inverse);
  const __m512 unit = _mm512_set1_ps(0x1p-24F);
  __m512i index =
      _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(first)),
                       _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  for (size_t i = 0; i < n; i += 64) {
    __m512i whole[4];
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) {
      const __m512i random = _mm512_srli_epi32(random_vector(key, index), 8);
      const __m512 fraction = _mm512_mul_ps(_mm512_cvtepi32_ps(random), unit);
      const __m512 value = _mm512_mul_ps(elements_at(x, i + v * 16), factor);
      const __m512 down = _mm512_roundscale_ps(_mm512_add_ps(value, fraction),
                                               _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
      whole[v] = _mm512_cvttps_epi32(down);
      index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
    }
    store_codes(whole, codes + i);
  }
}

LONGHAUL_KERNEL inline __m512 values_at(const int8_t* codes, size_t i, __m512 step) {
  const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i));
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sixteen)), step);
}

LONGHAUL_KERNEL inline void multiply(const int8_t* codes, size_t n, float step, uint8_t* elements) {
  const __m512 factor = _mm512_set1_ps(step);
#pragma GCC unroll 4
  for (size_t i = 0; i < n; i += 16) {
    _mm512_storeu_ps(elements + i * sizeof(float), values_at(codes, i, factor));
  }
}

LONGHAUL_KERNEL inline void multiply_add(const int8_t* codes, size_t n, float step, float scale,
                                         float* sums) {
  const __m512 factor = _mm512_set1_ps(step);
  const __m512 scales = _mm512_set1_ps(scale);
#pragma GCC unroll 4
  for (size_t i = 0; i < n; i += 16) {
    prefetch(sums + i, kReadAheadBytes);
    const __m512 value = _mm512_mul_ps(values_at(codes, i, factor), scales);
    _mm512_storeu_ps(sums + i, _mm512_add_ps(_mm512_loadu_ps(sums + i), value));
  }
}

#include "codec/quantize_body.inc"
#undef LONGHAUL_KERNEL
}  // namespace avx512

}  // namespace

void quantize_avx2(const QuantizeRule& rule, const uint8_t* elements, size_t count, uint32_t first,
                   int8_t* codes, uint16_t* steps) {
  avx2::quantize_blocks(rule, elements, count, first, codes, steps);
}

void dequantize_avx2(const int8_t* codes, const uint16_t* steps, size_t block, size_t count,
                     uint8_t* elements) {
  avx2::dequantize_blocks(codes, steps, block, count, elements);
}

void dequantize_add_avx2(const int8_t* codes, const uint16_t* steps, size_t block, size_t count,
                         float scale, float* sums) {
  avx2::dequantize_add_blocks(codes, steps, block, count, scale, sums);
}

void quantize_avx512(const QuantizeRule& rule, const uint8_t* elements, size_t count,
                     uint32_t first, int8_t* codes, uint16_t* steps) {
  avx512::quantize_blocks(rule, elements, count, first, codes, steps);
}

void dequantize_avx512(const int8_t* codes, const uint16_t* steps, size_t block, size_t count,
                       uint8_t* elements) {
  avx512::dequantize_blocks(codes, steps, block, count, elements);
}

void dequantize_add_avx512(const int8_t* codes, const uint16_t* steps, size_t block, size_t count,
                           float scale, float* sums) {
  avx512::dequantize_add_blocks(codes, steps, block, count, scale, sums);
}

}  // namespace longhaul

#endif

// A vector of 32 or 64 bytes holds vector/width elements. Splitting rotates the bits of each,
// gathers the bytes of each plane into one group by shuffling, and stores the groups; merging goes
// the other way. AVX-512 VBMI shuffles all 64 bytes in one instruction (vpermb). AVX2 shuffles
// within its two lanes of 16 bytes, so that lanes are brought together in a second step.
#include "codec/planes_x86.h"

#if defined(__x86_64__)

// g++ 12 takes the don't-care operands inside its own intrinsics for uninitialized (GCC bug
// 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include <array>

#include "codec/prefetch.h"

namespace longhaul {
namespace {

// Byte p of element e lies at e * width + p in a vector, and at p * elements + e when grouped.
template <size_t kWidth, size_t kBytes>
constexpr std::array<uint8_t, kBytes> grouping() {
  std::array<uint8_t, kBytes> from{};
  for (size_t i = 0; i < kBytes; ++i) {
    from[i] = static_cast<uint8_t>(i % (kBytes / kWidth) * kWidth + i / (kBytes / kWidth));
  }
  return from;
}

template <size_t kBytes>
constexpr std::array<uint8_t, kBytes> inverse(const std::array<uint8_t, kBytes>& shuffle) {
  std::array<uint8_t, kBytes> from{};
  for (size_t i = 0; i < kBytes; ++i) from[shuffle[i]] = static_cast<uint8_t>(i);
  return from;
}

// ---- AVX2

using Lane = std::array<uint8_t, 16>;

LONGHAUL_AVX2 inline __m256i shuffle_lanes(__m256i v, const Lane& shuffle) {
  const __m128i one = _mm_loadu_si128(reinterpret_cast<const __m128i*>(shuffle.data()));
  return _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(one));
}

// Quarters (of 8 bytes) 0, 2, 1, 3: its own inverse.
LONGHAUL_AVX2 inline __m256i swap_middle_quarters(__m256i v) {
  return _mm256_permute4x64_epi64(v, 0b11'01'10'00);
}

// For 8-byte elements: the 2-byte words of a lane's two halves, interleaved.
constexpr Lane kInterleaveWords = {0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15};

// Each member that returns a size_t returns how many elements it did, from the first;
// split_planes() and merge_planes() do the rest, fewer than a vector holds, one by one.
template <size_t kWidth>
struct Avx2 {
  static constexpr size_t kGroup = sizeof(__m256i) / kWidth;
  static constexpr int kLeft = kPlaneRotation<kWidth>;
  static constexpr int kRight = static_cast<int>(8 * kWidth) - kLeft;
  static constexpr Lane kGather = grouping<kWidth, 16>();
  static constexpr Lane kScatter = inverse(kGather);
  static constexpr Lane kDeinterleaveWords = inverse(kInterleaveWords);

  template <int kBits>
  LONGHAUL_AVX2 static __m256i rotate_left(__m256i v) {
    if constexpr (kWidth == 2) {
      return _mm256_or_si256(_mm256_slli_epi16(v, kBits), _mm256_srli_epi16(v, 16 - kBits));
    } else if constexpr (kWidth == 4) {
      return _mm256_or_si256(_mm256_slli_epi32(v, kBits), _mm256_srli_epi32(v, 32 - kBits));
    } else {
      return _mm256_or_si256(_mm256_slli_epi64(v, kBits), _mm256_srli_epi64(v, 64 - kBits));
    }
  }

  // The bytes of each plane side by side, plane 0 first. The first shuffle groups them within each
  // lane. Then a plane's bytes in the two lanes are brought together: they are halves of a lane for
  // elements of 2 bytes, words of 4 bytes for 4, and words of 2 bytes for 8. These last are finer
  // than the permutations across lanes, so halves cross first and a second shuffle interleaves the
  // words.
  LONGHAUL_AVX2 static __m256i group(__m256i v) {
    v = shuffle_lanes(rotate_left<kLeft>(v), kGather);
    if constexpr (kWidth == 4) {
      return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    v = swap_middle_quarters(v);
    return kWidth == 2 ? v : shuffle_lanes(v, kInterleaveWords);
  }

  LONGHAUL_AVX2 static __m256i ungroup(__m256i v) {
    if constexpr (kWidth == 4) {
      v = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
    } else {
      v = swap_middle_quarters(kWidth == 2 ? v : shuffle_lanes(v, kDeinterleaveWords));
    }
    return rotate_left<kRight>(shuffle_lanes(v, kScatter));
  }

  LONGHAUL_AVX2 static void store_groups(__m256i v, const PlanePointers& planes, size_t at) {
    const __m128i low = _mm256_castsi256_si128(v);
    const __m128i high = _mm256_extracti128_si256(v, 1);
    if constexpr (kWidth == 2) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(planes[0] + at), low);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(planes[1] + at), high);
    } else if constexpr (kWidth == 4) {
      store(planes[0] + at, _mm_cvtsi128_si64(low));
      store(planes[1] + at, _mm_extract_epi64(low, 1));
      store(planes[2] + at, _mm_cvtsi128_si64(high));
      store(planes[3] + at, _mm_extract_epi64(high, 1));
    } else {
      store(planes[0] + at, _mm_cvtsi128_si32(low));
      store(planes[1] + at, _mm_extract_epi32(low, 1));
      store(planes[2] + at, _mm_extract_epi32(low, 2));
      store(planes[3] + at, _mm_extract_epi32(low, 3));
      store(planes[4] + at, _mm_cvtsi128_si32(high));
      store(planes[5] + at, _mm_extract_epi32(high, 1));
      store(planes[6] + at, _mm_extract_epi32(high, 2));
      store(planes[7] + at, _mm_extract_epi32(high, 3));
    }
  }

  LONGHAUL_AVX2 static __m256i load_groups(const ConstPlanePointers& planes, size_t at) {
    if constexpr (kWidth == 2) {
      return _mm256_set_m128i(_mm_loadu_si128(reinterpret_cast<const __m128i*>(planes[1] + at)),
                              _mm_loadu_si128(reinterpret_cast<const __m128i*>(planes[0] + at)));
    } else if constexpr (kWidth == 4) {
      return _mm256_setr_epi64x(load<int64_t>(planes[0] + at), load<int64_t>(planes[1] + at),
                                load<int64_t>(planes[2] + at), load<int64_t>(planes[3] + at));
    } else {
      return _mm256_setr_epi32(load<int32_t>(planes[0] + at), load<int32_t>(planes[1] + at),
                               load<int32_t>(planes[2] + at), load<int32_t>(planes[3] + at),
                               load<int32_t>(planes[4] + at), load<int32_t>(planes[5] + at),
                               load<int32_t>(planes[6] + at), load<int32_t>(planes[7] + at));
    }
  }

  LONGHAUL_AVX2 static size_t split(const uint8_t* elements, size_t count, PlanePointers planes) {
    size_t i = 0;
    for (; i + kGroup <= count; i += kGroup) {
      const auto* from = reinterpret_cast<const __m256i*>(elements + i * kWidth);
      store_groups(group(_mm256_loadu_si256(from)), planes, i);
    }
    return i;
  }

  LONGHAUL_AVX2 static size_t merge(ConstPlanePointers planes, size_t count, uint8_t* elements) {
    size_t i = 0;
    for (; i + kGroup <= count; i += kGroup) {
      auto* to = reinterpret_cast<__m256i*>(elements + i * kWidth);
      _mm256_storeu_si256(to, ungroup(load_groups(planes, i)));
    }
    return i;
  }
};

// ---- AVX-512

template <size_t kWidth>
struct Avx512 {
  static constexpr size_t kGroup = sizeof(__m512i) / kWidth;
  static constexpr int kLeft = kPlaneRotation<kWidth>;
  static constexpr int kRight = static_cast<int>(8 * kWidth) - kLeft;
  static constexpr std::array<uint8_t, 64> kGather = grouping<kWidth, 64>();
  static constexpr std::array<uint8_t, 64> kScatter = inverse(kGather);

  template <int kBits>
  LONGHAUL_AVX512 static __m512i rotate_left(__m512i v) {
    if constexpr (kWidth == 2) {
      return _mm512_or_si512(_mm512_slli_epi16(v, kBits), _mm512_srli_epi16(v, 16 - kBits));
    } else if constexpr (kWidth == 4) {
      return _mm512_rol_epi32(v, kBits);
    } else {
      return _mm512_rol_epi64(v, kBits);
    }
  }

  LONGHAUL_AVX512 static void store_groups(__m512i v, const PlanePointers& planes, size_t at) {
    if constexpr (kWidth == 2) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(planes[0] + at), _mm512_castsi512_si256(v));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(planes[1] + at),
                          _mm512_extracti64x4_epi64(v, 1));
    } else {
      store_quarter<0>(_mm512_castsi512_si128(v), planes, at);
      store_quarter<1>(_mm512_extracti32x4_epi32(v, 1), planes, at);
      store_quarter<2>(_mm512_extracti32x4_epi32(v, 2), planes, at);
      store_quarter<3>(_mm512_extracti32x4_epi32(v, 3), planes, at);
    }
  }

  template <size_t kQuarter>
  LONGHAUL_AVX512 static void store_quarter(__m128i v, const PlanePointers& planes, size_t at) {
    if constexpr (kWidth == 4) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(planes[kQuarter] + at), v);
    } else {
      store(planes[2 * kQuarter] + at, _mm_cvtsi128_si64(v));
      store(planes[2 * kQuarter + 1] + at, _mm_extract_epi64(v, 1));
    }
  }

  LONGHAUL_AVX512 static __m512i load_groups(const ConstPlanePointers& planes, size_t at) {
    if constexpr (kWidth == 2) {
      const __m512i low = _mm512_castsi256_si512(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(planes[0] + at)));
      return _mm512_inserti64x4(
          low, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(planes[1] + at)), 1);
    } else {
      __m512i v = _mm512_castsi128_si512(load_quarter<0>(planes, at));
      v = _mm512_inserti32x4(v, load_quarter<1>(planes, at), 1);
      v = _mm512_inserti32x4(v, load_quarter<2>(planes, at), 2);
      return _mm512_inserti32x4(v, load_quarter<3>(planes, at), 3);
    }
  }

  template <size_t kQuarter>
  LONGHAUL_AVX512 static __m128i load_quarter(const ConstPlanePointers& planes, size_t at) {
    if constexpr (kWidth == 4) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(planes[kQuarter] + at));
    } else {
      return _mm_set_epi64x(load<int64_t>(planes[2 * kQuarter + 1] + at),
                            load<int64_t>(planes[2 * kQuarter] + at));
    }
  }

  // Quarters of four vectors, transposed: quarter q of vector v becomes quarter v of vector q.
  LONGHAUL_AVX512 static void transpose_quarters(__m512i* v) {
    const __m512i low01 = _mm512_shuffle_i64x2(v[0], v[1], 0b01'00'01'00);
    const __m512i low23 = _mm512_shuffle_i64x2(v[2], v[3], 0b01'00'01'00);
    const __m512i high01 = _mm512_shuffle_i64x2(v[0], v[1], 0b11'10'11'10);
    const __m512i high23 = _mm512_shuffle_i64x2(v[2], v[3], 0b11'10'11'10);
    v[0] = _mm512_shuffle_i64x2(low01, low23, 0b10'00'10'00);
    v[1] = _mm512_shuffle_i64x2(low01, low23, 0b11'01'11'01);
    v[2] = _mm512_shuffle_i64x2(high01, high23, 0b10'00'10'00);
    v[3] = _mm512_shuffle_i64x2(high01, high23, 0b11'01'11'01);
  }

  static constexpr size_t kLine = 4 * kGroup;

  // By how many elements the first step should advance, so that later stores begin at a cache line:
  // those that cross lines cost twice. `address` is where the first store goes, and each element
  // moves it by `stride`. The first step still does kLine elements, so the second may do some of
  // them again; it stores the same bytes.
  static size_t to_next_line(const uint8_t* address, size_t stride) {
    const size_t off = reinterpret_cast<uintptr_t>(address) % sizeof(__m512i);
    return off == 0 || off % stride != 0 ? kLine : (sizeof(__m512i) - off) / stride;
  }

  // For elements of 4 bytes: one vector gives 16 bytes of each plane, so four of them fill a whole
  // vector of each plane, and planes are written in whole cache lines.
  LONGHAUL_AVX512 static size_t split_lines(const uint8_t* elements, size_t count,
                                            const PlanePointers& planes) {
    const __m512i gather = _mm512_loadu_si512(kGather.data());
    size_t i = 0;
    for (size_t step = to_next_line(planes[0], 1); i + kLine <= count; i += step, step = kLine) {
      __m512i v[4];
#pragma GCC unroll 4
      for (size_t k = 0; k < 4; ++k) {
        const uint8_t* from = elements + (i + k * kGroup) * kWidth;
        prefetch(from, kReadAheadBytes);
        const __m512i loaded = _mm512_loadu_si512(from);
        v[k] = _mm512_permutexvar_epi8(gather, rotate_left<kLeft>(loaded));
      }
      transpose_quarters(v);
#pragma GCC unroll 4
      for (size_t p = 0; p < 4; ++p) {
        prefetch(planes[p] + i, kWriteAheadBytes);
        _mm512_storeu_si512(planes[p] + i, v[p]);
      }
    }
    return i;
  }

  LONGHAUL_AVX512 static size_t merge_lines(const ConstPlanePointers& planes, size_t count,
                                            uint8_t* elements) {
    const __m512i scatter = _mm512_loadu_si512(kScatter.data());
    size_t i = 0;
    for (size_t step = to_next_line(elements, kWidth); i + kLine <= count;
         i += step, step = kLine) {
      __m512i v[4];
#pragma GCC unroll 4
      for (size_t p = 0; p < 4; ++p) {
        prefetch(planes[p] + i, kWriteAheadBytes);
        v[p] = _mm512_loadu_si512(planes[p] + i);
      }
      transpose_quarters(v);
#pragma GCC unroll 4
      for (size_t k = 0; k < 4; ++k) {
        _mm512_storeu_si512(elements + (i + k * kGroup) * kWidth,
                            rotate_left<kRight>(_mm512_permutexvar_epi8(scatter, v[k])));
      }
    }
    return i;
  }

  LONGHAUL_AVX512 static size_t split(const uint8_t* elements, size_t count, PlanePointers planes) {
    const __m512i gather = _mm512_loadu_si512(kGather.data());
    size_t i = kWidth == 4 ? split_lines(elements, count, planes) : 0;
    for (; i + kGroup <= count; i += kGroup) {
      prefetch(elements + i * kWidth, kReadAheadBytes);
      if constexpr (kWidth == 2) prefetch(planes[0] + i, kWriteAheadBytes);
      const __m512i v = rotate_left<kLeft>(_mm512_loadu_si512(elements + i * kWidth));
      store_groups(_mm512_permutexvar_epi8(gather, v), planes, i);
    }
    return i;
  }

  LONGHAUL_AVX512 static size_t merge(ConstPlanePointers planes, size_t count, uint8_t* elements) {
    const __m512i scatter = _mm512_loadu_si512(kScatter.data());
    size_t i = kWidth == 4 ? merge_lines(planes, count, elements) : 0;
    for (; i + kGroup <= count; i += kGroup) {
      const __m512i v = _mm512_permutexvar_epi8(scatter, load_groups(planes, i));
      _mm512_storeu_si512(elements + i * kWidth, rotate_left<kRight>(v));
    }
    return i;
  }
};

template <template <size_t> class Kernel>
size_t split_with(size_t width, const uint8_t* elements, size_t count,
                  const PlanePointers& planes) {
  if (width == 2) return Kernel<2>::split(elements, count, planes);
  if (width == 4) return Kernel<4>::split(elements, count, planes);
  return Kernel<8>::split(elements, count, planes);
}

template <template <size_t> class Kernel>
size_t merge_with(size_t width, const ConstPlanePointers& planes, size_t count, uint8_t* elements) {
  if (width == 2) return Kernel<2>::merge(planes, count, elements);
  if (width == 4) return Kernel<4>::merge(planes, count, elements);
  return Kernel<8>::merge(planes, count, elements);
}

}  // namespace

size_t split_planes_avx2(size_t width, const uint8_t* elements, size_t count,
                         const PlanePointers& planes) {
  return split_with<Avx2>(width, elements, count, planes);
}

size_t merge_planes_avx2(size_t width, const ConstPlanePointers& planes, size_t count,
                         uint8_t* elements) {
  return merge_with<Avx2>(width, planes, count, elements);
}

size_t split_planes_avx512(size_t width, const uint8_t* elements, size_t count,
                           const PlanePointers& planes) {
  return split_with<Avx512>(width, elements, count, planes);
}

size_t merge_planes_avx512(size_t width, const ConstPlanePointers& planes, size_t count,
                           uint8_t* elements) {
  return merge_with<Avx512>(width, planes, count, elements);
}

}  // namespace longhaul

#endif

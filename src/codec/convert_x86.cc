#include "codec/convert_x86.h"

#if defined(__x86_64__)

#include "codec/random_x86.h"

namespace longhaul {
namespace {

constexpr size_t kLanes = 8;

// Each type: 8 elements as fp32, and back.
struct Float32 {
  static constexpr size_t kBytes = 4;
  LONGHAUL_AVX2 static __m256 load8(const uint8_t* from) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
  }
  LONGHAUL_AVX2 static void store8(__m256 values, uint8_t* to) {
    _mm256_storeu_ps(reinterpret_cast<float*>(to), values);
  }
};

struct Float64 {
  static constexpr size_t kBytes = 8;
  LONGHAUL_AVX2 static __m256 load8(const uint8_t* from) {
    const auto* doubles = reinterpret_cast<const double*>(from);
    return _mm256_set_m128(_mm256_cvtpd_ps(_mm256_loadu_pd(doubles + 4)),
                           _mm256_cvtpd_ps(_mm256_loadu_pd(doubles)));
  }
  LONGHAUL_AVX2 static void store8(__m256 values, uint8_t* to) {
    auto* doubles = reinterpret_cast<double*>(to);
    _mm256_storeu_pd(doubles, _mm256_cvtps_pd(_mm256_castps256_ps128(values)));
    _mm256_storeu_pd(doubles + 4, _mm256_cvtps_pd(_mm256_extractf128_ps(values, 1)));
  }
};

struct Float16 {
  static constexpr size_t kBytes = 2;
  LONGHAUL_AVX2 static __m256 load8(const uint8_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  LONGHAUL_AVX2 static void store8(__m256 values, uint8_t* to) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};

// The upper halves of the bits after `added`; NaNs made quiet instead, so that none turns into Inf.
LONGHAUL_AVX2 inline __m128i cut_to_bfloat16(__m256 values, __m256i added) {
  const __m256i bits = _mm256_castps_si256(values);
  const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF));
  const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7F800000));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, added), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const __m256i words = _mm256_blendv_epi8(rounded, quiet, nan);
  const __m256i packed = _mm256_packus_epi32(words, words);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0b11'01'10'00));
}

struct BFloat16 {
  static constexpr size_t kBytes = 2;
  LONGHAUL_AVX2 static __m256 load8(const uint8_t* from) {
    const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
  }
  LONGHAUL_AVX2 static void store8(__m256 values, uint8_t* to) {
    const __m256i odd =
        _mm256_and_si256(_mm256_srli_epi32(_mm256_castps_si256(values), 16), _mm256_set1_epi32(1));
    const __m256i added = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), cut_to_bfloat16(values, added));
  }
};

template <typename Type>
LONGHAUL_AVX2 size_t to_floats(const uint8_t* elements, size_t count, uint8_t* floats) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Float32::store8(Type::load8(elements + i * Type::kBytes), floats + i * Float32::kBytes);
  }
  return i;
}

template <typename Type>
LONGHAUL_AVX2 size_t from_floats(const uint8_t* floats, size_t count, uint8_t* elements) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Type::store8(Float32::load8(floats + i * Float32::kBytes), elements + i * Type::kBytes);
  }
  return i;
}

template <typename Type>
LONGHAUL_AVX2 size_t add_floats(const uint8_t* elements, size_t count, float scale, float* sums) {
  const __m256 scales = _mm256_set1_ps(scale);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m256 value = _mm256_mul_ps(Type::load8(elements + i * Type::kBytes), scales);
    _mm256_storeu_ps(sums + i, _mm256_add_ps(_mm256_loadu_ps(sums + i), value));
  }
  return i;
}

}  // namespace

size_t to_float32_avx2(ElementType type, const uint8_t* elements, size_t count, uint8_t* floats) {
  switch (type) {
    case ElementType::kFloat32:
      return to_floats<Float32>(elements, count, floats);
    case ElementType::kBFloat16:
      return to_floats<BFloat16>(elements, count, floats);
    case ElementType::kFloat16:
      return to_floats<Float16>(elements, count, floats);
    case ElementType::kFloat64:
      return to_floats<Float64>(elements, count, floats);
  }
  return 0;
}

size_t from_float32_avx2(ElementType type, const uint8_t* floats, size_t count, uint8_t* elements) {
  switch (type) {
    case ElementType::kFloat32:
      return from_floats<Float32>(floats, count, elements);
    case ElementType::kBFloat16:
      return from_floats<BFloat16>(floats, count, elements);
    case ElementType::kFloat16:
      return from_floats<Float16>(floats, count, elements);
    case ElementType::kFloat64:
      return from_floats<Float64>(floats, count, elements);
  }
  return 0;
}

LONGHAUL_AVX2 size_t to_bfloat16_stochastic_avx2(const uint8_t* floats, size_t count,
                                                 const RoundingKey& key, uint32_t first,
                                                 uint8_t* elements) {
  __m256i index = indices_from_avx2(first);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m256i random =
        _mm256_and_si256(random_bits_avx2(key, index), _mm256_set1_epi32(0xFFFF));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(elements + 2 * i),
                     cut_to_bfloat16(Float32::load8(floats + i * Float32::kBytes), random));
    index = _mm256_add_epi32(index, _mm256_set1_epi32(kLanes));
  }
  return i;
}

size_t add_elements_avx2(ElementType type, const uint8_t* elements, size_t count, float scale,
                         float* sums) {
  switch (type) {
    case ElementType::kFloat32:
      return add_floats<Float32>(elements, count, scale, sums);
    case ElementType::kBFloat16:
      return add_floats<BFloat16>(elements, count, scale, sums);
    case ElementType::kFloat16:
      return add_floats<Float16>(elements, count, scale, sums);
    case ElementType::kFloat64:
      return add_floats<Float64>(elements, count, scale, sums);
  }
  return 0;
}

}  // namespace longhaul

#endif

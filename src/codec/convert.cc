#include "codec/convert.h"

#include <algorithm>
#include <array>
#include <bit>

#include "codec/convert_x86.h"
#include "longhaul/base/check.h"

namespace longhaul {
namespace {

constexpr uint32_t kSignBit = 0x80000000;
constexpr uint32_t kInfinity = 0x7F800000;

bool is_nan(uint32_t bits) {
  return (bits & ~kSignBit) > kInfinity;
}

float float_of_bfloat16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

uint16_t bfloat16_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (is_nan(bits)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

uint16_t bfloat16_stochastic(float value, uint32_t random) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (is_nan(bits)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + (random & 0xFFFF)) >> 16);
}

float float_of_float16(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000U} << 16;
  const uint32_t magnitude = half & 0x7FFFU;
  if (magnitude >= 0x7C00) {
    const uint32_t quiet = magnitude > 0x7C00 ? 0x400000U : 0U;
    return std::bit_cast<float>(sign | kInfinity | (magnitude & 0x3FF) << 13 | quiet);
  }
  if (magnitude < 0x400) {  // zero and denormals: whole multiples of 2^-24
    const float value = static_cast<float>(magnitude) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  return std::bit_cast<float>(sign | ((magnitude << 13) + (uint32_t{127 - 15} << 23)));
}

uint16_t float16_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & ~kSignBit;
  if (magnitude > kInfinity) {
    return static_cast<uint16_t>(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
  }
  if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);  // from 65520 on
  if (magnitude < 0x38800000) {
    // Denormals: 0.5 has its unit at 2^-24, so the sum rounds to whole multiples of it.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000));
  }
  const uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | (rounded - (uint32_t{127 - 15} << 23)) >> 13);
}

float load_as_float(ElementType type, const uint8_t* elements, size_t i) {
  switch (type) {
    case ElementType::kFloat32:
      return load<float>(elements + 4 * i);
    case ElementType::kBFloat16:
      return float_of_bfloat16(load<uint16_t>(elements + 2 * i));
    case ElementType::kFloat16:
      return float_of_float16(load<uint16_t>(elements + 2 * i));
    case ElementType::kFloat64:
      return static_cast<float>(load<double>(elements + 8 * i));
  }
  throw BugError("no such element type");
}

void store_float(ElementType type, float value, uint8_t* elements, size_t i) {
  switch (type) {
    case ElementType::kFloat32:
      return store(elements + 4 * i, value);
    case ElementType::kBFloat16:
      return store(elements + 2 * i, bfloat16_of(value));
    case ElementType::kFloat16:
      return store(elements + 2 * i, float16_of(value));
    case ElementType::kFloat64:
      return store(elements + 8 * i, static_cast<double>(value));
  }
}

}  // namespace

void to_float32(ElementType type, SimdLevel level, const uint8_t* elements, size_t count,
                uint8_t* floats) {
  size_t i = 0;
#if defined(__x86_64__)
  if (level >= SimdLevel::kAvx2) i = to_float32_avx2(type, elements, count, floats);
#endif
  for (; i < count; ++i) store(floats + 4 * i, load_as_float(type, elements, i));
}

void from_float32(ElementType type, SimdLevel level, const uint8_t* floats, size_t count,
                  uint8_t* elements) {
  size_t i = 0;
#if defined(__x86_64__)
  if (level >= SimdLevel::kAvx2) i = from_float32_avx2(type, floats, count, elements);
#endif
  for (; i < count; ++i) store_float(type, load<float>(floats + 4 * i), elements, i);
}

void to_bfloat16_stochastic(SimdLevel level, const uint8_t* floats, size_t count,
                            const RoundingKey& key, uint32_t first, uint8_t* elements) {
  size_t i = 0;
#if defined(__x86_64__)
  if (level >= SimdLevel::kAvx2) {
    i = to_bfloat16_stochastic_avx2(floats, count, key, first, elements);
  }
#endif
  for (; i < count; ++i) {
    const uint32_t random = random_bits(key, first + static_cast<uint32_t>(i));
    store(elements + 2 * i, bfloat16_stochastic(load<float>(floats + 4 * i), random));
  }
}

void add_elements(ElementType type, SimdLevel level, const uint8_t* elements, size_t count,
                  float scale, float* sums) {
  size_t i = 0;
#if defined(__x86_64__)
  if (level >= SimdLevel::kAvx2) i = add_elements_avx2(type, elements, count, scale, sums);
#endif
  for (; i < count; ++i) sums[i] += load_as_float(type, elements, i) * scale;
}

}  // namespace longhaul

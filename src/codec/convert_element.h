// One number of one type as another: the scalar reference of convert.h.
#pragma once

#include <bit>
#include <cstdint>

#include "codec/host_device.h"

namespace longhaul {

inline constexpr uint32_t kFloatSignBit = 0x80000000;
inline constexpr uint32_t kFloatInfinity = 0x7F800000;

LONGHAUL_HOST_DEVICE inline bool is_nan(uint32_t bits) {
  return (bits & ~kFloatSignBit) > kFloatInfinity;
}

LONGHAUL_HOST_DEVICE inline float float_of_bfloat16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

// To nearest, ties to even: half a unit less one is added, and one more where the result would be
// odd. A carry into the exponent is right, up to Inf. A NaN is made quiet instead, because the cut
// could take all of its mantissa and leave an Inf.
LONGHAUL_HOST_DEVICE inline uint16_t bfloat16_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (is_nan(bits)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Adding 16 random bits to the 16 that are cut carries with the probability of what is cut off.
LONGHAUL_HOST_DEVICE inline uint16_t bfloat16_stochastic(float value, uint32_t random) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (is_nan(bits)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + (random & 0xFFFF)) >> 16);
}

LONGHAUL_HOST_DEVICE inline float float_of_float16(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000U} << 16;
  const uint32_t magnitude = half & 0x7FFFU;
  if (magnitude >= 0x7C00) {
    const uint32_t quiet = magnitude > 0x7C00 ? 0x400000U : 0U;
    return std::bit_cast<float>(sign | kFloatInfinity | (magnitude & 0x3FF) << 13 | quiet);
  }
  if (magnitude < 0x400) {  // zero and denormals: whole multiples of 2^-24
    const float value = static_cast<float>(magnitude) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  return std::bit_cast<float>(sign | ((magnitude << 13) + (uint32_t{127 - 15} << 23)));
}

LONGHAUL_HOST_DEVICE inline uint16_t float16_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & ~kFloatSignBit;
  if (magnitude > kFloatInfinity) {
    return static_cast<uint16_t>(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
  }
  if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);  // from 65520 on
  if (magnitude < 0x38800000) {
    // Denormals: 0.5 has its unit at 2^-24, so the sum rounds to whole multiples of it.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000));
  }
  // As in bfloat16_of(): 13 bits are cut; then the exponent's bias goes from 127 to 15.
  const uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | (rounded - (uint32_t{127 - 15} << 23)) >> 13);
}

}  // namespace longhaul

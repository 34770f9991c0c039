// Uniform quantization of fp32 in blocks: each block has one step, a bf16 number, and each element
// becomes a whole number of steps from -127 to 127.
//
// The step of a block is, rounded up to bf16 and never below 2^-126,
//   int8:  largest magnitude / 127
//   rms:   the larger of step x root mean square and largest magnitude / 127
// Why bf16: a code has at most 7 bits and a bf16 step 8, so that `code * step` is exact in fp32 and
// every processor, with or without fused multiply-add, decodes the same bits.
//
// Sums of squares are order-bound: element i is added to lane i % 64, then the upper half of the
// lanes to the lower half until one is left. All levels keep to it, so all give the same bytes.
//
// Thread safety: free functions without state.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "codec/host_device.h"
#include "codec/rounding_random.h"
#include "codec/simd.h"

namespace longhaul {

// Codes come in groups of so many; room for codes is a whole number of them.
inline constexpr size_t kCodeGroup = 256;
constexpr size_t padded_codes(size_t count) {
  return (count + kCodeGroup - 1) / kCodeGroup * kCodeGroup;
}

inline constexpr size_t kSumLanes = 64;
inline constexpr size_t kMaxQuantizerBlock = 4096;
inline constexpr float kLargestCode = 127;

// Steps as bf16 bits. A block is all zero (no codes), raw (NaN, Inf or too large: its elements
// travel as they are), or has a step from 2^-126 to 2^120.
inline constexpr uint16_t kZeroBlock = 0;
inline constexpr uint16_t kRawBlock = 0x7F80;
inline constexpr uint16_t kSmallestStep = 0x0080;
inline constexpr uint16_t kLargestStep = 0x7B80;

constexpr bool is_step(uint16_t bits) {
  return bits >= kSmallestStep && bits <= kLargestStep;
}
LONGHAUL_HOST_DEVICE inline float step_value(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

struct QuantizeRule {
  bool rms = false;
  float step = 0;             // in units of the RMS
  uint32_t block = 0;         // a power of two, 64 to kMaxQuantizerBlock
  uint32_t largest_bits = 0;  // magnitudes above (as fp32 bits) make a block raw
  bool stochastic = false;
  RoundingKey key;
};

// Magnitudes are compared as the integers that their bits are. Their order is that of the numbers,
// and Inf and NaN lie above all finite ones, so that one comparison finds blocks that must travel
// raw.
struct BlockStatistics {
  float squares = 0;
  uint32_t largest_bits = 0;
};

// The step of a block of `count` elements.
LONGHAUL_HOST_DEVICE inline uint16_t choose_step(const QuantizeRule& rule, size_t count,
                                                 const BlockStatistics& seen) {
  constexpr uint32_t kInfinityBits = 0x7F800000;
  if (seen.largest_bits > rule.largest_bits) return kRawBlock;
  if (seen.largest_bits == 0) return kZeroBlock;
  float step = std::bit_cast<float>(seen.largest_bits) / kLargestCode;
  if (rule.rms) {
    if (std::bit_cast<uint32_t>(seen.squares) >= kInfinityBits) return kRawBlock;
    const float wanted = rule.step * std::sqrt(seen.squares / static_cast<float>(count));
    step = wanted > step ? wanted : step;
  }
  // Up, not to nearest: with a smaller step the largest element would need a code above 127. The
  // sum cannot reach Inf, because larger blocks are raw.
  const uint32_t up = (std::bit_cast<uint32_t>(step) + 0xFFFF) >> 16;
  return up < kSmallestStep ? kSmallestStep : static_cast<uint16_t>(up);
}

// How an element becomes a code. `inverse` is 1 / step, `random` 32 random bits.
LONGHAUL_HOST_DEVICE inline int8_t clamped_code(float steps) {
  const float capped = steps > kLargestCode ? kLargestCode : steps;
  return static_cast<int8_t>(capped < -kLargestCode ? -kLargestCode : capped);
}
LONGHAUL_HOST_DEVICE inline int8_t nearest_code(float element, float inverse) {
  return clamped_code(std::nearbyint(element * inverse));
}
LONGHAUL_HOST_DEVICE inline int8_t stochastic_code(float element, float inverse, uint32_t random) {
  // 24 bits are what a float holds exactly, so the fraction is below 1 and evenly spread.
  const float fraction = static_cast<float>(random >> 8) * 0x1p-24F;
  return clamped_code(std::floor(element * inverse + fraction));
}

// `elements` are fp32 at any alignment. Writes one step per block, and padded_codes(count) codes,
// zeros where there is nothing to code. `first` is the index of the first element, for `rule.key`.
void quantize(SimdLevel level, const QuantizeRule& rule, const uint8_t* elements, size_t count,
              uint32_t first, int8_t* codes, uint16_t* steps);

// Writes count fp32 elements: code * step; 0 in blocks without a step. Reads `count` codes.
void dequantize(SimdLevel level, const int8_t* codes, const uint16_t* steps, size_t block,
                size_t count, uint8_t* elements);
// sums[i] += code * step * scale; both products and the sum are rounded (the first needs none).
void dequantize_add(SimdLevel level, const int8_t* codes, const uint16_t* steps, size_t block,
                    size_t count, float scale, float* sums);

}  // namespace longhaul

#include "codec/quantize.h"

#include <algorithm>
#include <cstring>

#include "codec/quantize_x86.h"

namespace longhaul {
namespace {

namespace scalar {

// The reference: every other level must give the same bytes, and tests compare them.
BlockStatistics block_statistics(const uint8_t* x, size_t n) {
  float lanes[kSumLanes] = {};
  uint32_t largest = 0;
  for (size_t i = 0; i < n; ++i) {
    const float value = load<float>(x + i * sizeof(float));
    lanes[i % kSumLanes] += value * value;
    largest = std::max(largest, std::bit_cast<uint32_t>(value) & 0x7FFFFFFF);
  }
  for (size_t half = kSumLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return {lanes[0], largest};
}

void round_nearest(const uint8_t* x, size_t n, float inverse, int8_t* codes) {
  for (size_t i = 0; i < n; ++i) {
    codes[i] = nearest_code(load<float>(x + i * sizeof(float)), inverse);
  }
}

void round_stochastic(const uint8_t* x, size_t n, float inverse, const RoundingKey& key,
                      uint32_t first, int8_t* codes) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t random = random_bits(key, first + static_cast<uint32_t>(i));
    codes[i] = stochastic_code(load<float>(x + i * sizeof(float)), inverse, random);
  }
}

void multiply(const int8_t* codes, size_t n, float step, uint8_t* elements) {
  for (size_t i = 0; i < n; ++i) {
    store(elements + i * sizeof(float), static_cast<float>(codes[i]) * step);
  }
}

void multiply_add(const int8_t* codes, size_t n, float step, float scale, float* sums) {
  for (size_t i = 0; i < n; ++i) sums[i] += static_cast<float>(codes[i]) * step * scale;
}

#define LONGHAUL_KERNEL
#include "codec/quantize_body.inc"
#undef LONGHAUL_KERNEL

}  // namespace scalar
}  // namespace

void quantize(SimdLevel level, const QuantizeRule& rule, const uint8_t* elements, size_t count,
              uint32_t first, int8_t* codes, uint16_t* steps) {
#if defined(__x86_64__)
  if (level == SimdLevel::kAvx512) {
    return quantize_avx512(rule, elements, count, first, codes, steps);
  }
  if (level == SimdLevel::kAvx2) return quantize_avx2(rule, elements, count, first, codes, steps);
#endif
  scalar::quantize_blocks(rule, elements, count, first, codes, steps);
}

void dequantize(SimdLevel level, const int8_t* codes, const uint16_t* steps, size_t block,
                size_t count, uint8_t* elements) {
#if defined(__x86_64__)
  if (level == SimdLevel::kAvx512) return dequantize_avx512(codes, steps, block, count, elements);
  if (level == SimdLevel::kAvx2) return dequantize_avx2(codes, steps, block, count, elements);
#endif
  scalar::dequantize_blocks(codes, steps, block, count, elements);
}

void dequantize_add(SimdLevel level, const int8_t* codes, const uint16_t* steps, size_t block,
                    size_t count, float scale, float* sums) {
#if defined(__x86_64__)
  if (level == SimdLevel::kAvx512) {
    return dequantize_add_avx512(codes, steps, block, count, scale, sums);
  }
  if (level == SimdLevel::kAvx2) {
    return dequantize_add_avx2(codes, steps, block, count, scale, sums);
  }
#endif
  scalar::dequantize_add_blocks(codes, steps, block, count, scale, sums);
}

}  // namespace longhaul

// quantize.h with AVX2 and AVX-512.
#pragma once

#if defined(__x86_64__)

#include "codec/quantize.h"

namespace longhaul {

void quantize_avx2(const QuantizeRule& rule, const uint8_t* elements, size_t count, uint32_t first,
                   int8_t* codes, uint16_t* steps);
void dequantize_avx2(const int8_t* codes, const uint16_t* steps, size_t block, size_t count,
                     uint8_t* elements);
void dequantize_add_avx2(const int8_t* codes, const uint16_t* steps, size_t block, size_t count,
                         float scale, float* sums);

void quantize_avx512(const QuantizeRule& rule, const uint8_t* elements, size_t count,
                     uint32_t first, int8_t* codes, uint16_t* steps);
void dequantize_avx512(const int8_t* codes, const uint16_t* steps, size_t block, size_t count,
                       uint8_t* elements);
void dequantize_add_avx512(const int8_t* codes, const uint16_t* steps, size_t block, size_t count,
                           float scale, float* sums);

}  // namespace longhaul

#endif

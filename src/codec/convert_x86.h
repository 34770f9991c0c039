// convert.h with AVX2 and F16C, for whole vectors of 8: every function returns the elements it did,
// from the first; the caller does the rest. Memory is the limit already, so AVX-512 has no code of
// its own.
#pragma once

#if defined(__x86_64__)

#include "codec/convert.h"

namespace longhaul {

size_t to_float32_avx2(ElementType type, const uint8_t* elements, size_t count, uint8_t* floats);
size_t from_float32_avx2(ElementType type, const uint8_t* floats, size_t count, uint8_t* elements);
size_t to_bfloat16_stochastic_avx2(const uint8_t* floats, size_t count, const RoundingKey& key,
                                   uint32_t first, uint8_t* elements);
size_t add_elements_avx2(ElementType type, const uint8_t* elements, size_t count, float scale,
                         float* sums);

}  // namespace longhaul

#endif

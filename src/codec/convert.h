// Elements of any type from and to fp32, rounded to nearest, ties to even. NaN stays NaN (quiet,
// with the top of its payload), Inf and -0 stay, numbers too large for the narrow type become Inf,
// denormals are kept.
//
// Thread safety: free functions without state. All levels give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/rounding_random.h"
#include "codec/simd.h"
#include "longhaul/codec/codec.h"

namespace longhaul {

// `elements` are of `type`, `floats` fp32, both at any alignment.
void to_float32(ElementType type, SimdLevel level, const uint8_t* elements, size_t count,
                uint8_t* floats);
void from_float32(ElementType type, SimdLevel level, const uint8_t* floats, size_t count,
                  uint8_t* elements);

// fp32 to bf16, up with the probability of what is cut off. `first` is the index of the first
// element, for `key`.
void to_bfloat16_stochastic(SimdLevel level, const uint8_t* floats, size_t count,
                            const RoundingKey& key, uint32_t first, uint8_t* elements);

// sums[i] += scale * element i; product and sum are rounded.
void add_elements(ElementType type, SimdLevel level, const uint8_t* elements, size_t count,
                  float scale, float* sums);

}  // namespace longhaul

// Floats as byte planes: plane k holds byte k of every element, after a rotation of each element's
// bits that brings its exponent into one byte. Sign and mantissa bits are noise; the exponents of a
// gradient are few and code well, so they must not share bytes with noise.
//
//   type  rotate left  plane with exponents                       other planes
//   fp32      1        3: all 8 bits                              0-2: mantissa and sign
//   bf16      1        1: all 8 bits                              0: mantissa and sign
//   fp16      1        1: 5 bits, 3 bits of mantissa              0: mantissa and sign
//   fp64      4        7: low 8 bits; 0: high 3 bits, sign, 4 of mantissa   1-6: mantissa
//
// Thread safety: free functions without state.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "codec/simd.h"
#include "longhaul/codec/codec.h"

namespace longhaul {

inline constexpr size_t kMaxPlanes = 8;

// Bits that elements of `kWidth` bytes are rotated to the left, as the table says.
template <size_t kWidth>
inline constexpr int kPlaneRotation = kWidth == 8 ? 4 : 1;

using PlanePointers = std::array<uint8_t*, kMaxPlanes>;
using ConstPlanePointers = std::array<const uint8_t*, kMaxPlanes>;

// Writes `count` bytes to each of the first element_bytes(type) planes. No span may overlap
// another. Precondition: `level` <= best_simd_level().
void split_planes(ElementType type, SimdLevel level, const uint8_t* elements, size_t count,
                  const PlanePointers& planes);

// The inverse: writes count * element_bytes(type) bytes to `elements`.
void merge_planes(ElementType type, SimdLevel level, const ConstPlanePointers& planes, size_t count,
                  uint8_t* elements);

}  // namespace longhaul

// Plane splitting and merging with AVX2 and AVX-512, for whole vectors only (planes.h says what
// they do). Every function returns the elements it did, from the first; the caller does the rest.
#pragma once

#if defined(__x86_64__)

#include "codec/planes.h"

namespace longhaul {

size_t split_planes_avx2(size_t width, const uint8_t* elements, size_t count,
                         const PlanePointers& planes);
size_t merge_planes_avx2(size_t width, const ConstPlanePointers& planes, size_t count,
                         uint8_t* elements);
size_t split_planes_avx512(size_t width, const uint8_t* elements, size_t count,
                           const PlanePointers& planes);
size_t merge_planes_avx512(size_t width, const ConstPlanePointers& planes, size_t count,
                           uint8_t* elements);

}  // namespace longhaul

#endif

// to[i] = table[from[i]], 64 bytes at a time where the processor can (two vpermi2b).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "codec/simd.h"

namespace longhaul {

// `from` and `to` may be the same.
void map_bytes(SimdLevel level, const std::array<uint8_t, 256>& table, const uint8_t* from,
               size_t count, uint8_t* to);

}  // namespace longhaul

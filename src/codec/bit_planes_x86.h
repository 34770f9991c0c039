// bit_planes.h with AVX2 and AVX-512, both with BMI2.
#pragma once

#if defined(__x86_64__)

#include "codec/bit_planes.h"

namespace longhaul {

size_t encode_bit_planes_avx2(Symbols kind, const uint8_t* symbols, size_t count, uint8_t* to,
                              const void* soon);
bool decode_bit_planes_avx2(Symbols kind, ByteSpan stored, size_t count, uint8_t* symbols,
                            const void* soon);
size_t encode_bit_planes_avx512(Symbols kind, const uint8_t* symbols, size_t count, uint8_t* to,
                                const void* soon);
bool decode_bit_planes_avx512(Symbols kind, ByteSpan stored, size_t count, uint8_t* symbols,
                              const void* soon);

}  // namespace longhaul

#endif

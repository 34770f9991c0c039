// The bit-plane coder: small whole numbers as planes of bits, Rice coded. 64 symbols are one word
// of each plane, so that a processor codes 64 of them with one compare, one pext and one shift.
//
// A block of 256 symbols has a Rice parameter k, chosen from its mean. Of each magnitude m the k
// low bits go out as planes; the rest, q = m >> k, in unary: plane j says whether q >= j, and only
// for symbols whose plane j - 1 said yes (pext leaves out the others). After 8 unary planes the
// symbols that are left send their remaining bits as they are. Signs go out last, of symbols that
// are not 0. Costs about 0.1 to 0.3 bits per symbol more than the entropy of a Gaussian or
// Laplacian.
//
// Format: docs/wire.md. Method: R. F. Rice, "Some practical universal noiseless coding techniques",
// JPL 79-22, laid out in planes.
//
// Thread safety: free functions without state.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/simd.h"
#include "longhaul/base/bytes.h"

namespace longhaul {

inline constexpr size_t kPlaneBlock = 256;
inline constexpr size_t kPlaneGroup = 64;
inline constexpr uint32_t kUnaryPlanes = 8;

// What symbols are: magnitudes from 0 to 255, or signed numbers from -127 to 127.
enum class Symbols : uint8_t { kUnsigned, kSigned };

// The most that encode_bit_planes() writes for `count` symbols.
constexpr size_t most_bit_plane_bytes(size_t count) {
  return (count + kPlaneBlock - 1) / kPlaneBlock * (1 + 3 * kPlaneBlock) + 16;
}

// `soon`, null or memory of 4 bytes a symbol that is needed next, is asked for meanwhile: coding
// leaves memory idle, and what comes before and after it waits for memory.

// Returns the bytes written. `symbols` holds a whole number of groups of 64, zeros behind `count`.
size_t encode_bit_planes(SimdLevel level, Symbols kind, const uint8_t* symbols, size_t count,
                         uint8_t* to, const void* soon = nullptr);

// Writes `count` symbols and up to the end of their last group of 64; false when `stored` is not
// exactly what so many symbols can be.
bool decode_bit_planes(SimdLevel level, Symbols kind, ByteSpan stored, size_t count,
                       uint8_t* symbols, const void* soon = nullptr);

}  // namespace longhaul

// How to code one byte plane, decided from a sample of it. Pure.
#pragma once

#include "longhaul/base/bytes.h"

namespace longhaul {

enum class PlaneChoice {
  kRaw,             // noise: coding would cost time and win nothing
  kHuffman,         // skewed bytes in no order: exponents
  kMatches,         // noise between runs: mantissas of a gradient with zero rows, constant planes
  kMatchesHuffman,  // skewed bytes between runs: its exponents
};

// The longest sample that choose_plane() takes.
inline constexpr size_t kMaxSampleBytes = 1024;

// `sample` holds pieces of the plane that are whole multiples of 8 bytes, so that runs show.
// Precondition: sample.size() <= kMaxSampleBytes.
PlaneChoice choose_plane(ByteSpan sample);

}  // namespace longhaul

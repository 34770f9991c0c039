// Random numbers of stochastic rounding: a hash of (step, bucket, rank, index of the element), so
// that a run can be repeated to the bit, whatever tiles, threads or instructions it is done in.
//
// Method: two rounds of multiply and xor-shift, constants from "lowbias32" (nullprogram.com).
#pragma once

#include <cstdint>

#include "codec/host_device.h"
#include "longhaul/codec/codec.h"

namespace longhaul {

struct RoundingKey {
  uint32_t start = 0;
  uint32_t middle = 0;
};

inline constexpr uint32_t kIndexFactor = 0x9E3779B1;
inline constexpr uint32_t kFirstFactor = 0x7FEB352D;
inline constexpr uint32_t kSecondFactor = 0x846CA68B;

// 32 random bits for one element; `index` counts modulo 2^32.
LONGHAUL_HOST_DEVICE inline uint32_t random_bits(const RoundingKey& key, uint32_t index) {
  uint32_t hash = index * kIndexFactor + key.start;
  hash ^= hash >> 16;
  hash = hash * kFirstFactor ^ key.middle;
  hash ^= hash >> 15;
  hash *= kSecondFactor;
  return hash ^ hash >> 16;
}

inline RoundingKey rounding_key(const EncodeContext& context) {
  // splitmix64 over the three numbers.
  uint64_t state = 0;
  const auto mix = [&state](uint64_t word) {
    state = (state ^ word) + 0x9E3779B97F4A7C15;
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9;
    state = (state ^ state >> 27) * 0x94D049BB133111EB;
    state ^= state >> 31;
  };
  mix(context.step);
  mix(context.bucket);
  mix(context.rank);
  return {static_cast<uint32_t>(state), static_cast<uint32_t>(state >> 32)};
}

}  // namespace longhaul

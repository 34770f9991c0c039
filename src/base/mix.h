// A 64-bit mixer: every bit of the input reaches every bit of the output. The finalizer of
// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
// mix64(seed ^ mix64(counter)) is a random number that needs no generator to be kept or restored.
// Not for secrets.
#pragma once

#include <cstdint>

namespace longhaul {

constexpr uint64_t mix64(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

}  // namespace longhaul

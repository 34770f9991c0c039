// Random numbers that are a function of (seed, link, packet number, purpose), so that what happens
// to a packet does not depend on timing, on other links, or on how many draws were made before.
// The mixer is splitmix64's (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
// 2014).
#pragma once

#include <cstdint>

namespace longhaul::linkem {

class CounterRandom {
 public:
  CounterRandom(uint64_t seed, uint64_t stream) : key_(mix(mix(seed) + stream)) {}

  // Uniform in [0, 1).
  double uniform(uint64_t packet, uint64_t purpose) const {
    constexpr double kTwoToMinus53 = 1.0 / 9007199254740992.0;
    return static_cast<double>(mix(mix(key_ + packet) + purpose) >> 11) * kTwoToMinus53;
  }

 private:
  static uint64_t mix(uint64_t value) {
    value += 0x9e3779b97f4a7c15;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
  }

  uint64_t key_;
};

}  // namespace longhaul::linkem

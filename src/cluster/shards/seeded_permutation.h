// A shuffle of 0 .. size - 1 that is computed, not stored: position -> element in constant memory,
// the same on every machine and in every version for the same seed.
//
// A Feistel network of six rounds on the smallest even number of bits that holds `size`, its round
// function mix64, is a permutation of all numbers of so many bits; an image that is too large is
// sent through again until it falls below `size` (cycle walking: Black and Rogaway, "Ciphers with
// arbitrary finite domains", CT-RSA 2002). At most four rounds of that on average.
#pragma once

#include <array>
#include <cstdint>

namespace longhaul {

class SeededPermutation {
 public:
  SeededPermutation(uint64_t size, uint64_t seed);

  // Precondition: position < size.
  uint64_t operator()(uint64_t position) const;

 private:
  uint64_t size_;
  int half_bits_ = 0;
  std::array<uint64_t, 6> keys_;
};

}  // namespace longhaul

#include "cluster/shards/seeded_permutation.h"

#include <utility>

#include "base/check.h"
#include "base/mix.h"

namespace longhaul {

SeededPermutation::SeededPermutation(uint64_t size, uint64_t seed) : size_(size) {
  // Then half_bits_ is at most 31, and no shift goes out of range.
  LONGHAUL_CHECK(size <= uint64_t{1} << 62);
  while (uint64_t{1} << (2 * half_bits_) < size) ++half_bits_;
  for (size_t round = 0; round < keys_.size(); ++round) keys_[round] = mix64(seed ^ mix64(round));
}

uint64_t SeededPermutation::operator()(uint64_t position) const {
  LONGHAUL_CHECK(position < size_);
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = position >> half_bits_;
    uint64_t right = position & mask;
    for (const uint64_t key : keys_) {
      left ^= mix64(key ^ right) & mask;
      std::swap(left, right);
    }
    position = left << half_bits_ | right;
  } while (position >= size_);
  return position;
}

}  // namespace longhaul

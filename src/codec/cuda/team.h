// The threads of one CUDA block at work: a phase is a number of items, done side by side, and all
// wait for the last one before the next phase begins. What lives longer than a phase stands in
// memory that the threads share. On the CPU one thread does the items one by one, so that a test
// without a GPU runs all of a kernel but its launch.
//
// Whoever reads shared memory between two phases (every thread does, for itself) must not let the
// next phase write there: a fast thread is in it already.
#pragma once

#include <cstdint>

#include "codec/host_device.h"

namespace longhaul::cuda {

struct Team {
  static constexpr uint32_t kThreads = 256;

  // On the CPU only: items in reverse order. They may not depend on each other, so that nothing
  // may change; the test looks.
  bool backwards = false;

  // Calls one(i) for each i below count.
  template <typename One>
  LONGHAUL_HOST_DEVICE void each(uint32_t count, const One& one) const {
#if defined(__CUDA_ARCH__)
    for (uint32_t i = threadIdx.x; i < count; i += kThreads) one(i);
    __syncthreads();
#else
    for (uint32_t i = 0; i < count; ++i) one(backwards ? count - 1 - i : i);
#endif
  }
};

template <typename T>
struct Sums {
  const T* before;  // of all values before the i-th
  T total;
};

// `values` and `spare` have room for `count`; `before` will be one of them.
template <typename T>
LONGHAUL_HOST_DEVICE Sums<T> sums_before(const Team& team, uint32_t count, T* values, T* spare) {
  for (uint32_t reach = 1; reach < count; reach *= 2) {
    team.each(count, [=](uint32_t i) {
      spare[i] = i >= reach ? values[i - reach] + values[i] : values[i];
    });
    T* const summed = spare;
    spare = values;
    values = summed;
  }
  const T total = count > 0 ? values[count - 1] : T{};
  team.each(count, [=](uint32_t i) { spare[i] = i > 0 ? values[i - 1] : T{}; });
  return {spare, total};
}

// Items of one phase may set bits of the same word.
LONGHAUL_HOST_DEVICE inline void set_bits_of_word(uint32_t* word, uint32_t bits) {
#if defined(__CUDA_ARCH__)
  if (bits != 0) atomicOr(word, bits);
#else
  *word |= bits;
#endif
}

// Sets the bits of `bits` in `words`, the lowest at `bit_at`. Words where none is set are not
// touched.
LONGHAUL_HOST_DEVICE inline void set_bits(uint32_t* words, uint32_t bit_at, uint64_t bits) {
  if (bits == 0) return;
  const uint32_t shift = bit_at % 32;
  uint32_t* const word = words + bit_at / 32;
  const uint64_t low = bits << shift;
  // Two shifts because one by 64 is undefined.
  const auto high = static_cast<uint32_t>(bits >> 1 >> (63 - shift));
  set_bits_of_word(word, static_cast<uint32_t>(low));
  if (low >> 32 != 0) set_bits_of_word(word + 1, static_cast<uint32_t>(low >> 32));
  if (high != 0) set_bits_of_word(word + 2, high);
}

}  // namespace longhaul::cuda

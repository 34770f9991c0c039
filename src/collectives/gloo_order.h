// The order in which Gloo's ring all-reduce, as PyTorch's ProcessGroupGloo calls it, combines the
// ranks' values: a function of the number of elements, their size and the number of ranks, and of
// nothing else. Whoever has all ranks' values of a chunk can so give the same bits.
//
// Source: gloo/allreduce.cc (ring(), computeSegments) of pytorch/gloo; held against c10d's own in
// tests/collectives/links_backend_test.cc. Pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace longhaul {

// The bytes that one send of Gloo's carries at most, a constant that PyTorch does not change.
inline constexpr size_t kGlooMaxSegmentBytes = size_t{1} << 20;

// Elements that are all combined in one order: the value of the rank before `owner` starts, then
// each rank before that one, downwards and from 0 to the last, adds its own, until the owner has:
//   acc = x[owner - 1];  acc = op(x[r], acc) for r = owner - 2, ..., owner  (modulo ranks)
// A rank's own value is op's left operand and what came to it so far is the right one.
struct GlooChunk {
  size_t begin = 0;
  size_t end = 0;
  int owner = 0;  // also the chunk's index
};

// The chunks that have elements, in their order; they cover [0, elements) without gaps.
// `element_size`: of what Gloo sees, which is the real numbers of a complex tensor.
std::vector<GlooChunk> gloo_chunks(size_t elements, size_t element_size, int ranks);

// The rank whose value is the `step`th to be combined in the chunk of `owner`, from 0 on.
constexpr int gloo_rank_at(int owner, int step, int ranks) {
  return ((owner - 1 - step) % ranks + ranks) % ranks;
}

// Gloo's sum, product, min and max of one element, to the last bit. The sum and the product of two
// NaNs are the left one made quiet, which `own + acc` does not promise: compilers exchange
// operands. Min and max give `own` where both are equal (as zeros of both signs are) or either is a
// NaN.
template <class T>
T gloo_sum(T own, T acc) {
  const T sum = own + acc;
  return own != own ? own + T(1) : acc != acc ? acc + T(1) : sum;  // NaN + 1: that NaN, quiet
}

template <class T>
T gloo_product(T own, T acc) {
  const T product = own * acc;
  return own != own ? own + T(1) : acc != acc ? acc + T(1) : product;
}

template <class T>
T gloo_min(T own, T acc) {
  return acc < own ? acc : own;
}

template <class T>
T gloo_max(T own, T acc) {
  return own < acc ? acc : own;
}

}  // namespace longhaul

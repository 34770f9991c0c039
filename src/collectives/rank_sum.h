// The arithmetic of the compressed all-reduce: contributions added one after the other in rank
// order, scaled, rounded once. fp32 and fp64 add in their own type, bf16 and fp16 in fp32.
//
// Thread safety: one thread at a time.
//
// Sums start at -0.0, the one number that changes no other one that is added to it.
#pragma once

#include <cstddef>
#include <vector>

#include "longhaul/base/bytes.h"
#include "longhaul/codec/codec.h"

namespace longhaul {

class RankSum {
 public:
  // Starts anew for so many elements.
  void reset(ElementType type, size_t element_count);
  // The next rank's elements. Precondition: elements.size() is what reset() said.
  void add(ByteSpan elements);
  // As add() of what `codec` decodes; what a lossy codec says of 2-byte elements is not rounded to
  // their type first. Errors: the codec's; the sum is spent then.
  Result<void> add_encoded(Codec& codec, ByteSpan payload);
  // scale * sum, as native elements. The scale is applied in the type of the sum.
  void finish(double scale, MutableByteSpan elements);

 private:
  ElementType type_ = ElementType::kFloat32;
  size_t count_ = 0;
  std::vector<float> narrow_;     // sums of fp32, bf16, fp16
  std::vector<double> wide_;      // sums of fp64
  std::vector<double> incoming_;  // fp64 as decoded
};

}  // namespace longhaul

#include "collectives/rank_sum.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstring>

#include "base/check.h"

namespace longhaul {
namespace {

// Tensors of torch are aligned for their elements, and so are chunks that start at an element.
template <typename Element>
const Element* as(ByteSpan bytes) {
  return reinterpret_cast<const Element*>(bytes.data());
}

template <typename Element, typename Sum>
void accumulate(ByteSpan elements, std::vector<Sum>& sums) {
  const Element* from = as<Element>(elements);
  for (size_t i = 0; i < sums.size(); ++i) sums[i] += static_cast<Sum>(from[i]);
}

// One multiplication and one rounding to the element's type. For fp32 and fp64 the cast back
// changes nothing.
template <typename Element, typename Sum>
void round_scaled(const std::vector<Sum>& sums, double scale, MutableByteSpan elements) {
  auto* to = reinterpret_cast<Element*>(elements.data());
  const auto factor = static_cast<Sum>(scale);
  for (size_t i = 0; i < sums.size(); ++i) to[i] = static_cast<Element>(sums[i] * factor);
}

}  // namespace

void RankSum::reset(ElementType type, size_t element_count) {
  type_ = type;
  count_ = element_count;
  if (type == ElementType::kFloat64) {
    wide_.assign(element_count, -0.0);
  } else {
    narrow_.assign(element_count, -0.0F);
  }
}

void RankSum::add(ByteSpan elements) {
  LONGHAUL_CHECK(elements.size() == count_ * element_bytes(type_));
  switch (type_) {
    case ElementType::kFloat32:
      accumulate<float>(elements, narrow_);
      break;
    case ElementType::kBFloat16:
      accumulate<c10::BFloat16>(elements, narrow_);
      break;
    case ElementType::kFloat16:
      accumulate<c10::Half>(elements, narrow_);
      break;
    case ElementType::kFloat64:
      accumulate<double>(elements, wide_);
      break;
  }
}

// decode_add() adds in fp32, which would round fp64; so those are decoded first and added here.
Result<void> RankSum::add_encoded(Codec& codec, ByteSpan payload) {
  if (type_ != ElementType::kFloat64) return codec.decode_add(type_, payload, narrow_, 1.0F);
  incoming_.resize(count_);
  const MutableByteSpan bytes{reinterpret_cast<uint8_t*>(incoming_.data()),
                              count_ * sizeof(double)};
  const Result<void> decoded = codec.decode(type_, payload, bytes);
  if (decoded) add(bytes);
  return decoded;
}

void RankSum::finish(double scale, MutableByteSpan elements) {
  LONGHAUL_CHECK(elements.size() == count_ * element_bytes(type_));
  switch (type_) {
    case ElementType::kFloat32:
      return round_scaled<float>(narrow_, scale, elements);
    case ElementType::kBFloat16:
      return round_scaled<c10::BFloat16>(narrow_, scale, elements);
    case ElementType::kFloat16:
      return round_scaled<c10::Half>(narrow_, scale, elements);
    case ElementType::kFloat64:
      return round_scaled<double>(wide_, scale, elements);
  }
}

}  // namespace longhaul

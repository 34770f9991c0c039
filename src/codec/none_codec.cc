#include "codec/none_codec.h"

#include <algorithm>

#include "base/check.h"
#include "codec/convert.h"

namespace longhaul {
namespace {

Result<void> check_size(ElementType type, ByteSpan payload, size_t count) {
  const size_t expected = count * element_bytes(type);
  if (payload.size() == expected) return {};
  return Failure{ErrorKind::kCorrupt,
                 str_cat("raw payload of ", payload.size(), " bytes, expected ", expected, " (",
                         count, " x ", to_string(type), ")")};
}

}  // namespace

size_t NoneCodec::max_payload_bytes(ElementType type, size_t element_count) const {
  return element_count * element_bytes(type);
}

size_t NoneCodec::encode(ElementType type, ByteSpan elements, MutableByteSpan payload,
                         const EncodeContext& /*context*/) {
  LONGHAUL_CHECK(elements.size() % element_bytes(type) == 0U);
  LONGHAUL_CHECK(payload.size() >= elements.size());
  std::copy(elements.begin(), elements.end(), payload.begin());
  return elements.size();
}

Result<void> NoneCodec::decode(ElementType type, ByteSpan payload, MutableByteSpan elements) {
  const Result<void> size = check_size(type, payload, elements.size() / element_bytes(type));
  if (size) std::copy(payload.begin(), payload.end(), elements.begin());
  return size;
}

Result<void> NoneCodec::decode_add(ElementType type, ByteSpan payload, std::span<float> sums,
                                   float scale) {
  const Result<void> size = check_size(type, payload, sums.size());
  if (size) add_elements(type, level_, payload.data(), sums.size(), scale, sums.data());
  return size;
}

}  // namespace longhaul

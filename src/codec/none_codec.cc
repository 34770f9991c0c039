#include "codec/none_codec.h"

#include <algorithm>

#include "longhaul/base/check.h"

namespace longhaul {

size_t NoneCodec::max_payload_bytes(ElementType type, size_t element_count) const {
  return element_count * element_bytes(type);
}

size_t NoneCodec::encode(ElementType type, ByteSpan elements, MutableByteSpan payload) {
  LONGHAUL_CHECK(elements.size() % element_bytes(type) == 0U);
  LONGHAUL_CHECK(payload.size() >= elements.size());
  std::copy(elements.begin(), elements.end(), payload.begin());
  return elements.size();
}

Result<void> NoneCodec::decode(ElementType type, ByteSpan payload, MutableByteSpan elements) {
  if (payload.size() != elements.size()) {
    return Failure{
        ErrorKind::kCorrupt,
        str_cat("raw payload of ", payload.size(), " bytes, expected ", elements.size(), " (",
                elements.size() / element_bytes(type), " x ", to_string(type), ")")};
  }
  std::copy(payload.begin(), payload.end(), elements.begin());
  return {};
}

}  // namespace longhaul

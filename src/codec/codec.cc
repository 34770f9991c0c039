#include "longhaul/codec/codec.h"

#include "codec/none_codec.h"
#include "codec/zstd_codec.h"
#include "longhaul/base/check.h"

namespace longhaul {

size_t element_bytes(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return 4;
    case ElementType::kBFloat16:
    case ElementType::kFloat16:
      return 2;
    case ElementType::kFloat64:
      return 8;
  }
  throw BugError(str_cat("no element type ", static_cast<int>(type)));
}

std::string_view to_string(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return "fp32";
    case ElementType::kBFloat16:
      return "bf16";
    case ElementType::kFloat16:
      return "fp16";
    case ElementType::kFloat64:
      return "fp64";
  }
  return "unknown element type";
}

std::unique_ptr<Codec> make_codec(const CodecSpec& spec) {
  switch (spec.kind) {
    case CodecSpec::Kind::kNone:
      return std::make_unique<NoneCodec>();
    case CodecSpec::Kind::kZstd:
      return std::make_unique<ZstdCodec>();
  }
  throw BugError(str_cat("no such codec: ", spec.str()));
}

}  // namespace longhaul

#include "longhaul/codec/codec.h"

#include "base/check.h"
#include "codec/cast_coder.h"
#include "codec/make_codec.h"
#include "codec/none_codec.h"
#include "codec/plane_coder.h"
#include "codec/quantized_coder.h"
#include "codec/tiled_codec.h"

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

Result<void> check_supports(const CodecSpec& spec, ElementType type) {
  // Casting one type of two bytes to the other saves nothing and loses range or precision.
  const bool refused = (spec.kind == CodecSpec::Kind::kBf16 && type == ElementType::kFloat16) ||
                       (spec.kind == CodecSpec::Kind::kFp16 && type == ElementType::kBFloat16);
  if (!refused) return {};
  return Failure{ErrorKind::kInvalid,
                 str_cat("codec ", spec.str(), " cannot carry ", to_string(type),
                         " elements (it takes fp32, fp64 and ",
                         spec.kind == CodecSpec::Kind::kBf16 ? "bf16" : "fp16", ")")};
}

std::unique_ptr<Codec> make_codec(const CodecSpec& spec) {
  return make_codec(spec, best_simd_level());
}

std::unique_ptr<Codec> make_codec(const CodecSpec& spec, SimdLevel level) {
  if (!spec.valid()) throw BugError(str_cat("no such codec: ", spec.str()));
  const auto tiled = [&](uint32_t tile_elements, std::unique_ptr<TileCoder> coder) {
    return std::make_unique<TiledCodec>(spec, level, tile_elements, std::move(coder));
  };
  const auto planes = [&](PlaneCoder::Skewed skewed) {
    return tiled(kPlaneTileElements, std::make_unique<PlaneCoder>(skewed, level));
  };
  switch (spec.kind) {
    case CodecSpec::Kind::kNone:
      return std::make_unique<NoneCodec>(level);
    case CodecSpec::Kind::kZstd:
      return planes(PlaneCoder::Skewed::kHuffman);
    case CodecSpec::Kind::kLossless:
      return planes(PlaneCoder::Skewed::kRiceOrHuffman);
    case CodecSpec::Kind::kBf16:
    case CodecSpec::Kind::kFp16:
      return tiled(kPlaneTileElements, std::make_unique<CastCoder>(spec, level));
    case CodecSpec::Kind::kInt8:
    case CodecSpec::Kind::kRms:
      return tiled(kQuantizedTileElements, std::make_unique<QuantizedCoder>(spec, level));
    case CodecSpec::Kind::kAuto:
      break;  // a choice among the others, made above this room
  }
  throw BugError(str_cat("no such codec: ", spec.str()));
}

}  // namespace longhaul

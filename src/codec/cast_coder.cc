#include "codec/cast_coder.h"

#include <algorithm>

#include "codec/convert.h"
#include "codec/corrupt.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Formats of a stored tile: its two-byte elements, or those as a tile of plane_coder.h.
constexpr uint8_t kPackedCast = 1;
constexpr uint8_t kCodedTile = 2;

constexpr size_t kNarrowBytes = 2;

PlaneCoder::Skewed coder_of(CodecSpec::Stage stage) {
  return stage == CodecSpec::Stage::kRice ? PlaneCoder::Skewed::kRiceOrHuffman
                                          : PlaneCoder::Skewed::kHuffman;
}

}  // namespace

CastCoder::CastCoder(const CodecSpec& spec, SimdLevel level)
    : spec_(spec),
      level_(level),
      narrow_(spec.kind == CodecSpec::Kind::kBf16 ? ElementType::kBFloat16 : ElementType::kFloat16),
      planes_(std::make_unique<PlaneCoder>(coder_of(spec.stage), level)),
      floats_(kPlaneTileElements * sizeof(float)),
      rounded_(kPlaneTileElements * kNarrowBytes) {}

void CastCoder::round(const EncodeContext& context, ElementType type, ByteSpan elements,
                      uint8_t* to) {
  const size_t count = elements.size() / element_bytes(type);
  if (type == narrow_) {
    std::copy(elements.begin(), elements.end(), to);
    return;
  }
  const uint8_t* floats = elements.data();
  if (type != ElementType::kFloat32) {
    to_float32(type, level_, elements.data(), count, floats_.get());
    floats = floats_.get();
  }
  if (spec_.rounding == CodecSpec::Rounding::kStochastic) {
    to_bfloat16_stochastic(level_, floats, count, rounding_key(context),
                           static_cast<uint32_t>(context.first_element), to);
  } else {
    from_float32(narrow_, level_, floats, count, to);
  }
}

size_t CastCoder::encode(const EncodeContext& context, ElementType type, ByteSpan elements,
                         MutableByteSpan to) {
  const size_t count = elements.size() / element_bytes(type);
  const size_t packed_bytes = count * kNarrowBytes;
  if (spec_.stage == CodecSpec::Stage::kPacked) {
    to[0] = kPackedCast;
    round(context, type, elements, to.data() + 1);
    return 1 + packed_bytes;
  }
  round(context, type, elements, rounded_.get());
  const ByteSpan rounded(rounded_.get(), packed_bytes);
  to[0] = kCodedTile;
  const size_t coded = planes_->encode(context, narrow_, rounded, to.subspan(1));
  if (coded < packed_bytes) return 1 + coded;
  to[0] = kPackedCast;
  std::copy(rounded.begin(), rounded.end(), to.begin() + 1);
  return 1 + packed_bytes;
}

Result<const uint8_t*> CastCoder::read(ByteSpan stored, size_t count) {
  const size_t packed_bytes = count * kNarrowBytes;
  if (stored[0] == kPackedCast) {
    if (stored.size() == 1 + packed_bytes) return stored.data() + 1;
    return corrupt(stored.size() - 1, " bytes for ", count, " x ", to_string(narrow_));
  }
  if (stored[0] != kCodedTile || stored.size() < 2) {
    return corrupt("unknown format ", static_cast<int>(stored[0]));
  }
  const Result<void> done =
      planes_->decode(narrow_, stored.subspan(1), {rounded_.get(), packed_bytes});
  if (!done) return done.failure();
  return rounded_.get();
}

Result<void> CastCoder::decode(ElementType type, ByteSpan stored, MutableByteSpan elements) {
  const size_t count = elements.size() / element_bytes(type);
  const Result<const uint8_t*> narrow = read(stored, count);
  if (!narrow) return narrow.failure();
  if (type == narrow_) {
    std::copy_n(*narrow, elements.size(), elements.data());
  } else if (type == ElementType::kFloat32) {
    to_float32(narrow_, level_, *narrow, count, elements.data());
  } else {
    to_float32(narrow_, level_, *narrow, count, floats_.get());
    from_float32(type, level_, floats_.get(), count, elements.data());
  }
  return {};
}

Result<void> CastCoder::decode_add(ElementType /*type*/, ByteSpan stored, std::span<float> sums,
                                   float scale) {
  const Result<const uint8_t*> narrow = read(stored, sums.size());
  if (!narrow) return narrow.failure();
  add_elements(narrow_, level_, *narrow, sums.size(), scale, sums.data());
  return {};
}

}  // namespace longhaul

#include "codec/quantized_coder.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "codec/bit_planes.h"
#include "codec/convert.h"
#include "codec/corrupt.h"

namespace longhaul {
QuantizedCoder::QuantizedCoder(const CodecSpec& spec, SimdLevel level)
    : spec_(spec),
      level_(level),
      floats_(kQuantizedTileElements * sizeof(float)),
      codes_(kQuantizedTileElements) {
  static_assert(kQuantizedTileElements % kCodeGroup == 0);
}

size_t QuantizedCoder::block_count(size_t block, size_t count) const {
  return std::min<size_t>(spec_.block, count - block * spec_.block);
}

template <typename One>
void QuantizedCoder::for_each_raw(size_t count, const One& one) const {
  for (size_t block = 0; block < blocks(count); ++block) {
    if (steps_[block] == kRawBlock) one(block * spec_.block, block_count(block, count));
  }
}

size_t QuantizedCoder::encode(const EncodeContext& context, ElementType type, ByteSpan elements,
                              MutableByteSpan to) {
  const size_t width = element_bytes(type);
  const size_t count = elements.size() / width;
  const uint8_t* floats = elements.data();
  if (type != ElementType::kFloat32) {
    to_float32(type, level_, elements.data(), count, floats_.get());
    floats = floats_.get();
  }
  quantize(level_, quantize_rule(spec_, type, context), floats, count,
           static_cast<uint32_t>(context.first_element), codes(), steps_);

  const size_t step_bytes = blocks(count) * sizeof(uint16_t);
  std::memcpy(to.data() + 1, steps_, step_bytes);
  size_t written = 1 + step_bytes;
  for_each_raw(count, [&](size_t first, size_t here) {
    std::copy_n(elements.data() + first * width, here * width, to.data() + written);
    written += here * width;
  });
  // The next tile's elements. Where there is none the address is only prefetched, which does no
  // harm. `soon` means 4 bytes a symbol, so it fits fp32 alone.
  const void* soon = type == ElementType::kFloat32 ? elements.data() + elements.size() : nullptr;
  return written + write_codes(count, soon, to.data(), to.subspan(written));
}

// A stage that saves nothing is given up for packed codes. That bounds what a tile takes.
size_t QuantizedCoder::write_codes(size_t count, const void* soon, uint8_t* format,
                                   MutableByteSpan to) {
  const auto* symbols = codes_.get();
  if (spec_.stage == CodecSpec::Stage::kRice) {
    *format = kRiceTile;
    const size_t written =
        encode_bit_planes(level_, Symbols::kSigned, symbols, count, to.data(), soon);
    if (written < count) return written;
  }
  if (spec_.stage == CodecSpec::Stage::kHuffman) {
    *format = kHuffmanTile;
    const auto written = zstd_.encode(PlaneChoice::kHuffman, {symbols, count}, to);
    if (written && *written < count) return *written;
  }
  *format = kPackedTile;
  return write_packed(count, to.data());
}

// The codes of blocks that have a step.
size_t QuantizedCoder::write_packed(size_t count, uint8_t* to) const {
  size_t written = 0;
  for (size_t block = 0; block < blocks(count); ++block) {
    if (!is_step(steps_[block])) continue;
    const size_t here = block_count(block, count);
    std::memcpy(to + written, codes() + block * spec_.block, here);
    written += here;
  }
  return written;
}

Result<QuantizedCoder::Tile> QuantizedCoder::read(ElementType type, ByteSpan stored, size_t count,
                                                  const void* soon) {
  // `count` is the caller's, so steps_ has room for them. Every step is checked here: from now on a
  // block has a step, is raw, or is zero.
  const size_t step_bytes = blocks(count) * sizeof(uint16_t);
  if (stored.size() < 1 + step_bytes) return corrupt("cut in its steps");
  std::memcpy(steps_, stored.data() + 1, step_bytes);
  size_t raw_bytes = 0;
  for (size_t block = 0; block < blocks(count); ++block) {
    const uint16_t step = steps_[block];
    if (step == kRawBlock) {
      raw_bytes += block_count(block, count) * element_bytes(type);
    } else if (step != kZeroBlock && !is_step(step)) {
      return corrupt("block ", block, " has an impossible step");
    }
  }
  if (stored.size() - 1 - step_bytes < raw_bytes) return corrupt("cut in its raw blocks");
  Tile tile;
  tile.raw = stored.data() + 1 + step_bytes;
  const Result<void> codes =
      read_codes(stored.subspan(1 + step_bytes + raw_bytes), count, stored[0], soon, tile);
  if (!codes) return codes.failure();
  return tile;
}

Result<void> QuantizedCoder::read_codes(ByteSpan stored, size_t count, uint8_t format,
                                        const void* soon, Tile& tile) {
  auto* symbols = codes_.get();
  tile.codes = codes();
  switch (format) {
    case kPackedTile:
      return read_packed(stored, count, tile);
    case kRiceTile:
      if (decode_bit_planes(level_, Symbols::kSigned, stored, count, symbols, soon)) return {};
      return corrupt("its bit planes do not decode");
    case kHuffmanTile:
      if (zstd_.decode(stored, {symbols, count})) return {};
      return corrupt("its zstd frame does not decode");
    default:
      return corrupt("unknown format ", static_cast<int>(format));
  }
}

// Used where they stand when no block is left out.
Result<void> QuantizedCoder::read_packed(ByteSpan stored, size_t count, Tile& tile) {
  size_t coded = 0;
  for (size_t block = 0; block < blocks(count); ++block) {
    if (is_step(steps_[block])) coded += block_count(block, count);
  }
  if (coded != stored.size()) return corrupt(stored.size(), " bytes for ", coded, " codes");
  const auto* from = reinterpret_cast<const int8_t*>(stored.data());
  if (coded == count) {
    tile.codes = from;
    return {};
  }
  for (size_t block = 0; block < blocks(count); ++block) {
    const size_t here = block_count(block, count);
    int8_t* const to = codes() + block * spec_.block;
    if (!is_step(steps_[block])) {
      std::fill_n(to, here, int8_t{0});
      continue;
    }
    std::memcpy(to, from, here);
    from += here;
  }
  return {};
}

Result<void> QuantizedCoder::decode(ElementType type, ByteSpan stored, MutableByteSpan elements) {
  const size_t width = element_bytes(type);
  const size_t count = elements.size() / width;
  const Result<Tile> tile = read(type, stored, count, nullptr);
  if (!tile) return tile.failure();
  const bool direct = type == ElementType::kFloat32;
  uint8_t* floats = direct ? elements.data() : floats_.get();
  dequantize(level_, tile->codes, steps_, spec_.block, count, floats);
  if (!direct) from_float32(type, level_, floats_.get(), count, elements.data());
  const uint8_t* raw = tile->raw;
  for_each_raw(count, [&](size_t first, size_t here) {
    std::copy_n(raw, here * width, elements.data() + first * width);
    raw += here * width;
  });
  return {};
}

Result<void> QuantizedCoder::decode_add(ElementType type, ByteSpan stored, std::span<float> sums,
                                        float scale) {
  const Result<Tile> tile = read(type, stored, sums.size(), sums.data());
  if (!tile) return tile.failure();
  dequantize_add(level_, tile->codes, steps_, spec_.block, sums.size(), scale, sums.data());
  const uint8_t* raw = tile->raw;
  for_each_raw(sums.size(), [&](size_t first, size_t here) {
    add_elements(type, level_, raw, here, scale, sums.data() + first);
    raw += here * element_bytes(type);
  });
  return {};
}

}  // namespace longhaul

// What every encoder of "int8" and "rms" agrees on: the size of a tile, its formats, and the
// quantizer's rule. Format: docs/wire.md.
#pragma once

#include "codec/quantize.h"
#include "longhaul/codec/codec.h"

namespace longhaul {

// 64 KiB of fp32: they, their codes and what becomes of those stay in L2, a block in L1.
inline constexpr uint32_t kQuantizedTileElements = 16 * 1024;
inline constexpr uint32_t kMostQuantizedBlocks = kQuantizedTileElements / 64;

// Formats of a stored tile: format byte, a step per block, raw blocks, codes.
inline constexpr uint8_t kPackedTile = 1;
inline constexpr uint8_t kRiceTile = 2;
inline constexpr uint8_t kHuffmanTile = 3;

inline QuantizeRule quantize_rule(const CodecSpec& spec, ElementType type,
                                  const EncodeContext& context) {
  QuantizeRule rule;
  rule.rms = spec.kind == CodecSpec::Kind::kRms;
  rule.step = spec.step;
  rule.block = spec.block;
  // Up to here a block's largest code times its step stays finite in the type.
  rule.largest_bits = std::bit_cast<uint32_t>(type == ElementType::kFloat16 ? 0x1p15F : 0x1p126F);
  rule.stochastic = spec.rounding == CodecSpec::Rounding::kStochastic;
  if (rule.stochastic) rule.key = rounding_key(context);
  return rule;
}

}  // namespace longhaul

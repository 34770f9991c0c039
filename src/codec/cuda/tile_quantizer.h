// quantize.h for one tile and a team: the same steps and the same codes.
#pragma once

#include "codec/convert_element.h"
#include "codec/cuda/team.h"
#include "codec/quantized_tile.h"

namespace longhaul::cuda {

// One tile to encode.
struct TileTask {
  const void* elements;  // aligned as their type
  ElementType type;
  uint32_t width;  // bytes of an element
  uint32_t count;  // 1 to kQuantizedTileElements
  uint32_t first;  // index of the first element, for rule.key
  QuantizeRule rule;

  LONGHAUL_HOST_DEVICE uint32_t blocks() const { return (count + rule.block - 1) / rule.block; }
  LONGHAUL_HOST_DEVICE uint32_t block_count(uint32_t block) const {
    const uint32_t rest = count - block * rule.block;
    return rest < rule.block ? rest : rule.block;
  }
  LONGHAUL_HOST_DEVICE float element(uint32_t i) const {
    switch (type) {
      case ElementType::kFloat32:
        return static_cast<const float*>(elements)[i];
      case ElementType::kBFloat16:
        return float_of_bfloat16(static_cast<const uint16_t*>(elements)[i]);
      case ElementType::kFloat16:
        return float_of_float16(static_cast<const uint16_t*>(elements)[i]);
      case ElementType::kFloat64:
        break;
    }
    return static_cast<float>(static_cast<const double*>(elements)[i]);
  }
};

// Blocks whose sums are taken at the same time.
inline constexpr uint32_t kBlocksAtOnce = 16;

struct QuantizerMemory {
  float squares[kBlocksAtOnce * kSumLanes];
  uint32_t largest_bits[kBlocksAtOnce * kSumLanes];
  uint16_t steps[kMostQuantizedBlocks];
  int8_t codes[kQuantizedTileElements];  // zeros behind the last, up to a whole kCodeGroup
};

// Lane i of a block sums up elements i, i + 64, ...
LONGHAUL_HOST_DEVICE inline void sum_lane(const TileTask& task, uint32_t block, uint32_t lane,
                                          float& squares, uint32_t& largest_bits) {
  squares = 0;
  largest_bits = 0;
  const uint32_t count = task.block_count(block);
  for (uint32_t i = lane; i < count; i += kSumLanes) {
    const float value = task.element(block * task.rule.block + i);
    const uint32_t magnitude = std::bit_cast<uint32_t>(value) & 0x7FFFFFFF;
    squares += value * value;
    largest_bits = magnitude > largest_bits ? magnitude : largest_bits;
  }
}

LONGHAUL_HOST_DEVICE inline void choose_steps(const Team& team, const TileTask& task,
                                              QuantizerMemory& memory) {
  float* const squares = memory.squares;
  uint32_t* const largest = memory.largest_bits;
  for (uint32_t start = 0; start < task.blocks(); start += kBlocksAtOnce) {
    const uint32_t left = task.blocks() - start;
    const uint32_t here = left < kBlocksAtOnce ? left : kBlocksAtOnce;
    team.each(here * kSumLanes, [&](uint32_t i) {
      sum_lane(task, start + i / kSumLanes, i % kSumLanes, squares[i], largest[i]);
    });
    for (uint32_t half = kSumLanes / 2; half > 0; half /= 2) {
      team.each(here * half, [&](uint32_t i) {
        const uint32_t at = i / half * kSumLanes + i % half;
        squares[at] += squares[at + half];
        if (largest[at + half] > largest[at]) largest[at] = largest[at + half];
      });
    }
    team.each(here, [&](uint32_t i) {
      const BlockStatistics seen{squares[i * kSumLanes], largest[i * kSumLanes]};
      memory.steps[start + i] = choose_step(task.rule, task.block_count(start + i), seen);
    });
  }
}

LONGHAUL_HOST_DEVICE inline int8_t code_of(const TileTask& task, uint32_t i, uint16_t step) {
  if (!is_step(step)) return 0;
  const float inverse = 1.0F / step_value(step);
  if (!task.rule.stochastic) return nearest_code(task.element(i), inverse);
  return stochastic_code(task.element(i), inverse, random_bits(task.rule.key, task.first + i));
}

// Fills in steps and codes.
LONGHAUL_HOST_DEVICE inline void quantize_tile(const Team& team, const TileTask& task,
                                               QuantizerMemory& memory) {
  choose_steps(team, task, memory);
  team.each(static_cast<uint32_t>(padded_codes(task.count)), [&](uint32_t i) {
    memory.codes[i] = i < task.count ? code_of(task, i, memory.steps[i / task.rule.block]) : 0;
  });
}

}  // namespace longhaul::cuda

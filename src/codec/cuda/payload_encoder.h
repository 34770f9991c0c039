// TiledCodec with QuantizedCoder, stage packed or rice, for teams: three passes over a bucket, of
// which each is a kernel of cuda_encoder.cu. Tiles are stored in slots first, because where one
// stands in the payload depends on what became of those before it.
//
//   encode_tile()   a team per tile: elements -> slot, and how many bytes it takes
//   place_tiles()   one team: where each tile goes, the payload's head, its size
//   move_tile()     a team per tile: slot -> payload
#pragma once

#include "codec/cuda/tile_planes.h"
#include "codec/cuda/tile_quantizer.h"
#include "codec/payload.h"
#include "codec/tile_coder.h"

namespace longhaul::cuda {

// Elements of a block that stand before the codes, or among them; summed up over blocks.
struct Places {
  uint32_t raw;
  uint32_t coded;

  LONGHAUL_HOST_DEVICE Places operator+(const Places& other) const {
    return {raw + other.raw, coded + other.coded};
  }
};

struct TileMemory {
  QuantizerMemory quantizer;
  PlaneMemory planes;
  Places places[kMostQuantizedBlocks];
  Places spare[kMostQuantizedBlocks];
};

// One bucket to encode.
struct BucketTask {
  const void* elements;  // aligned as their type
  ElementType type;
  uint32_t width;  // bytes of an element
  uint64_t element_count;
  uint32_t first;  // index of the first element, for rule.key
  QuantizeRule rule;
  bool rice;
  uint8_t header[kPayloadHeaderBytes];

  LONGHAUL_HOST_DEVICE uint32_t tiles() const {
    return static_cast<uint32_t>((element_count + kQuantizedTileElements - 1) /
                                 kQuantizedTileElements);
  }
  LONGHAUL_HOST_DEVICE TileTask tile(uint32_t index) const {
    const uint64_t begin = uint64_t{index} * kQuantizedTileElements;
    const uint64_t rest = element_count - begin;
    return {static_cast<const uint8_t*>(elements) + begin * width,
            type,
            width,
            static_cast<uint32_t>(rest < kQuantizedTileElements ? rest : kQuantizedTileElements),
            first + static_cast<uint32_t>(begin),
            rule};
  }
};

// Precondition: check_cuda_supports(spec) (cuda_encoder.h).
inline BucketTask bucket_task(const CodecSpec& spec, ElementType type, const void* elements,
                              size_t element_count, const EncodeContext& context) {
  BucketTask task{elements,
                  type,
                  static_cast<uint32_t>(element_bytes(type)),
                  element_count,
                  static_cast<uint32_t>(context.first_element),
                  quantize_rule(spec, type, context),
                  spec.stage == CodecSpec::Stage::kRice,
                  {}};
  write_payload_header({spec.kind, type, element_count, kQuantizedTileElements, spec.block},
                       task.header);
  return task;
}

// Memory that the passes hand on.
struct Slots {
  uint32_t* words;         // slot_words() for each tile
  uint32_t* stored_bytes;  // of each tile
  uint64_t* payload_at;    // of each tile
};

// A stored tile is never longer than its elements and a format byte.
LONGHAUL_HOST_DEVICE inline uint64_t slot_words(uint32_t width) {
  return kQuantizedTileElements * width / sizeof(uint32_t) + 1;
}

// Bytes of a number of any size at any alignment, lowest first.
LONGHAUL_HOST_DEVICE inline void store_bytes(uint8_t* to, uint64_t value, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) to[i] = static_cast<uint8_t>(value >> 8 * i);
}

LONGHAUL_HOST_DEVICE inline Sums<Places> place_blocks(const Team& team, const TileTask& task,
                                                      TileMemory& memory) {
  team.each(task.blocks(), [&](uint32_t block) {
    const uint16_t step = memory.quantizer.steps[block];
    const uint32_t count = task.block_count(block);
    memory.places[block] = {step == kRawBlock ? count : 0, is_step(step) ? count : 0};
  });
  return sums_before(team, task.blocks(), memory.places, memory.spare);
}

// Steps, elements of raw blocks and, but for Rice, codes of the others.
LONGHAUL_HOST_DEVICE inline void write_blocks(const Team& team, const TileTask& task,
                                              const TileMemory& memory, const Sums<Places>& places,
                                              uint8_t format, uint8_t* stored) {
  const uint8_t* const elements = static_cast<const uint8_t*>(task.elements);
  const QuantizerMemory& quantizer = memory.quantizer;
  uint8_t* const raw = stored + 1 + task.blocks() * sizeof(uint16_t);
  uint8_t* const codes = raw + places.total.raw * task.width;
  team.each(task.count, [&](uint32_t i) {
    const uint32_t block = i / task.rule.block;
    const uint32_t within = i % task.rule.block;
    const uint16_t step = quantizer.steps[block];
    if (i == 0) stored[0] = format;
    if (within == 0) store_bytes(stored + 1 + block * sizeof(uint16_t), step, sizeof(uint16_t));
    if (step == kRawBlock) {
      uint8_t* const to = raw + (places.before[block].raw + within) * task.width;
      for (uint32_t b = 0; b < task.width; ++b) to[b] = elements[i * task.width + b];
    } else if (format == kPackedTile && is_step(step)) {
      codes[places.before[block].coded + within] = static_cast<uint8_t>(quantizer.codes[i]);
    }
  });
}

LONGHAUL_HOST_DEVICE inline uint32_t store_raw(const Team& team, const TileTask& task,
                                               uint8_t* stored) {
  const uint8_t* const elements = static_cast<const uint8_t*>(task.elements);
  const uint32_t bytes = task.count * task.width;
  team.each(1 + bytes, [&](uint32_t i) { stored[i] = i == 0 ? kRawTile : elements[i - 1]; });
  return 1 + bytes;
}

// Returns the bytes of the stored tile, to every thread.
LONGHAUL_HOST_DEVICE inline uint32_t encode_tile(const Team& team, const TileTask& task, bool rice,
                                                 TileMemory& memory, uint32_t* slot) {
  auto* const stored = reinterpret_cast<uint8_t*>(slot);
  quantize_tile(team, task, memory.quantizer);
  const Sums<Places> places = place_blocks(team, task, memory);
  const uint32_t codes_at =
      1 + task.blocks() * static_cast<uint32_t>(sizeof(uint16_t)) + places.total.raw * task.width;

  const PlaneTask planes{reinterpret_cast<const uint8_t*>(memory.quantizer.codes), task.count};
  Sums<uint32_t> bodies{nullptr, 0};
  if (rice) {
    bodies = measure_planes(team, planes, memory.planes);
    rice = planes.blocks() + bodies.total < task.count;
  }
  const uint32_t bytes = codes_at + (rice ? planes.blocks() + bodies.total : places.total.coded);
  if (bytes > task.count * task.width) return store_raw(team, task, stored);

  if (rice) team.each((bytes + 3) / 4, [&](uint32_t word) { slot[word] = 0; });
  write_blocks(team, task, memory, places, rice ? kRiceTile : kPackedTile, stored);
  if (rice) set_planes(team, planes, memory.planes, bodies, codes_at, slot);
  return bytes;
}

struct PlacingMemory {
  uint64_t bytes[Team::kThreads];
  uint64_t spare[Team::kThreads];
};

// Writes the head of the payload, where each of its tiles goes, and the payload's size.
LONGHAUL_HOST_DEVICE inline void place_tiles(const Team& team, const BucketTask& task,
                                             const Slots& slots, PlacingMemory& memory,
                                             uint8_t* payload, uint64_t* payload_bytes) {
  const uint32_t tiles = task.tiles();
  const uint32_t run = (tiles + Team::kThreads - 1) / Team::kThreads;
  const auto end_of = [&](uint32_t part) {
    return (part + 1) * run < tiles ? (part + 1) * run : tiles;
  };
  team.each(Team::kThreads, [&](uint32_t part) {
    uint64_t bytes = 0;
    for (uint32_t tile = part * run; tile < end_of(part); ++tile) bytes += slots.stored_bytes[tile];
    memory.bytes[part] = bytes;
  });
  const Sums<uint64_t> parts = sums_before(team, Team::kThreads, memory.bytes, memory.spare);
  const uint64_t head_bytes = kPayloadHeaderBytes + uint64_t{tiles} * kDirectoryEntryBytes;
  team.each(Team::kThreads, [&](uint32_t part) {
    uint64_t at = head_bytes + parts.before[part];
    for (uint32_t tile = part * run; tile < end_of(part); ++tile) {
      slots.payload_at[tile] = at;
      at += slots.stored_bytes[tile];
      store_bytes(payload + kPayloadHeaderBytes + uint64_t{tile} * kDirectoryEntryBytes,
                  slots.stored_bytes[tile], kDirectoryEntryBytes);
    }
    if (part == 0) *payload_bytes = head_bytes + parts.total;
    if (part < kPayloadHeaderBytes) payload[part] = task.header[part];
  });
}

LONGHAUL_HOST_DEVICE inline void move_tile(const Team& team, const Slots& slots, uint32_t tile,
                                           uint32_t width, uint8_t* payload) {
  const auto* const from = reinterpret_cast<const uint8_t*>(slots.words + tile * slot_words(width));
  uint8_t* const to = payload + slots.payload_at[tile];
  team.each(slots.stored_bytes[tile], [&](uint32_t i) { to[i] = from[i]; });
}

}  // namespace longhaul::cuda

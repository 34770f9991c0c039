// bit_planes.h for the codes of one tile and a team: the same bytes. A sequential coder appends;
// here every group of 64 codes counts its bits first, so that each knows where its own begin, and
// all are set at once.
#pragma once

#include "codec/bit_planes_parts.h"
#include "codec/cuda/team.h"
#include "codec/quantized_tile.h"

namespace longhaul::cuda {

inline constexpr uint32_t kMostPlaneGroups = kQuantizedTileElements / kPlaneGroup;
inline constexpr uint32_t kMostPlaneBlocks = kQuantizedTileElements / kPlaneBlock;

struct PlaneMemory {
  uint16_t sum[kMostPlaneGroups];  // of a group's magnitudes
  uint8_t largest[kMostPlaneGroups];
  // Codes of a group that plane j is about, those with q >= j - 1 (docs/wire.md); [0]: not 0.
  uint8_t kept[kMostPlaneGroups][kUnaryPlanes + 2];
  uint8_t heads[kMostPlaneBlocks];
  uint32_t bytes[kMostPlaneBlocks];
  uint32_t spare[kMostPlaneBlocks];
};

// The codes of a tile as groups and blocks of the bit-plane coder.
struct PlaneTask {
  const uint8_t* codes;  // zeros behind the last, up to a whole group
  uint32_t count;

  LONGHAUL_HOST_DEVICE uint32_t groups() const { return (count + kPlaneGroup - 1) / kPlaneGroup; }
  LONGHAUL_HOST_DEVICE uint32_t blocks() const { return (count + kPlaneBlock - 1) / kPlaneBlock; }
  LONGHAUL_HOST_DEVICE uint32_t groups_of(uint32_t block) const {
    const uint32_t rest = groups() - block * kGroupsInBlock;
    return rest < kGroupsInBlock ? rest : kGroupsInBlock;
  }
  LONGHAUL_HOST_DEVICE uint32_t magnitude(uint32_t i) const {
    return magnitude_of<Symbols::kSigned>(codes[i]);
  }
};

LONGHAUL_HOST_DEVICE inline BlockHead head_of(uint32_t sum, uint32_t largest, uint32_t groups) {
  BlockHead head;
  head.k = rice_parameter(sum, groups);
  const uint32_t most = largest >> head.k;
  head.unary = most < kUnaryPlanes ? most : kUnaryPlanes;
  head.escaped = most > kUnaryPlanes;
  return head;
}

LONGHAUL_HOST_DEVICE inline uint32_t escape_bits(const BlockHead& head) {
  return head.escaped ? magnitude_bits(Symbols::kSigned) - head.k : 0;
}

LONGHAUL_HOST_DEVICE inline void choose_heads(const Team& team, const PlaneTask& task,
                                              PlaneMemory& memory) {
  team.each(task.groups(), [&](uint32_t group) {
    uint32_t sum = 0;
    uint32_t largest = 0;
    for (uint32_t i = group * kPlaneGroup; i < (group + 1) * kPlaneGroup; ++i) {
      const uint32_t magnitude = task.magnitude(i);
      sum += magnitude;
      largest = magnitude > largest ? magnitude : largest;
    }
    memory.sum[group] = static_cast<uint16_t>(sum);
    memory.largest[group] = static_cast<uint8_t>(largest);
  });
  team.each(task.blocks(), [&](uint32_t block) {
    uint32_t sum = 0;
    uint32_t largest = 0;
    for (uint32_t g = 0; g < task.groups_of(block); ++g) {
      const uint32_t group = block * kGroupsInBlock + g;
      sum += memory.sum[group];
      largest = memory.largest[group] > largest ? memory.largest[group] : largest;
    }
    memory.heads[block] = pack(head_of(sum, largest, task.groups_of(block)));
  });
}

LONGHAUL_HOST_DEVICE inline void count_kept(const PlaneTask& task, uint32_t group, uint32_t k,
                                            uint8_t* kept) {
  for (uint32_t j = 0; j < kUnaryPlanes + 2; ++j) {
    uint32_t codes = 0;
    for (uint32_t i = group * kPlaneGroup; i < (group + 1) * kPlaneGroup; ++i) {
      const uint32_t magnitude = task.magnitude(i);
      codes += (j == 0 ? magnitude != 0 : magnitude >> k >= j - 1) ? 1 : 0;
    }
    kept[j] = static_cast<uint8_t>(codes);
  }
}

// Bits of `groups` groups of a block in plane j.
LONGHAUL_HOST_DEVICE inline uint32_t kept_by(const PlaneMemory& memory, uint32_t block,
                                             uint32_t groups, uint32_t j) {
  uint32_t bits = 0;
  for (uint32_t g = 0; g < groups; ++g) bits += memory.kept[block * kGroupsInBlock + g][j];
  return bits;
}

LONGHAUL_HOST_DEVICE inline uint32_t body_bytes(const PlaneMemory& memory, uint32_t block,
                                                uint32_t groups) {
  const BlockHead head = unpack_head(memory.heads[block]);
  uint32_t bits = head.k * groups * static_cast<uint32_t>(kPlaneGroup);
  for (uint32_t j = 0; j <= head.unary; ++j) bits += kept_by(memory, block, groups, j);
  bits += escape_bits(head) * kept_by(memory, block, groups, kUnaryPlanes + 1);
  return (bits + 7) / 8;
}

// Fills in what set_planes() needs; total: bytes of the bodies.
LONGHAUL_HOST_DEVICE inline Sums<uint32_t> measure_planes(const Team& team, const PlaneTask& task,
                                                          PlaneMemory& memory) {
  choose_heads(team, task, memory);
  team.each(task.groups(), [&](uint32_t group) {
    const BlockHead head = unpack_head(memory.heads[group / kGroupsInBlock]);
    count_kept(task, group, head.k, memory.kept[group]);
  });
  team.each(task.blocks(), [&](uint32_t block) {
    memory.bytes[block] = body_bytes(memory, block, task.groups_of(block));
  });
  return sums_before(team, task.blocks(), memory.bytes, memory.spare);
}

// What bit(code) says of those codes of a group that are kept, lowest first.
template <typename Kept, typename Bit>
LONGHAUL_HOST_DEVICE uint64_t bits_of_kept(const uint8_t* codes, const Kept& kept, const Bit& bit) {
  uint64_t bits = 0;
  uint32_t at = 0;
  for (uint32_t i = 0; i < kPlaneGroup; ++i) {
    if (!kept(codes[i])) continue;
    bits |= uint64_t{bit(codes[i]) ? 1U : 0U} << at;
    ++at;
  }
  return bits;
}

// Sets the bits of one group; its block's body begins at `bit_at`.
LONGHAUL_HOST_DEVICE inline void set_group(const PlaneTask& task, const PlaneMemory& memory,
                                           uint32_t group, uint32_t bit_at, uint32_t* words) {
  const uint32_t block = group / kGroupsInBlock;
  const uint32_t before = group % kGroupsInBlock;
  const uint32_t groups = task.groups_of(block);
  const BlockHead head = unpack_head(memory.heads[block]);
  const uint32_t k = head.k;
  const uint8_t* const codes = task.codes + group * kPlaneGroup;
  const auto magnitude = [](uint8_t code) {
    return uint32_t{magnitude_of<Symbols::kSigned>(code)};
  };

  for (uint32_t bit = 0; bit < k; ++bit) {
    const uint64_t plane = bits_of_kept(
        codes, [](uint8_t) { return true; },
        [&](uint8_t code) { return (magnitude(code) >> bit & 1) != 0; });
    set_bits(words, bit_at + before * static_cast<uint32_t>(kPlaneGroup), plane);
    bit_at += groups * static_cast<uint32_t>(kPlaneGroup);
  }
  for (uint32_t j = 1; j <= head.unary; ++j) {
    const uint64_t plane = bits_of_kept(
        codes, [&](uint8_t code) { return magnitude(code) >> k >= j - 1; },
        [&](uint8_t code) { return magnitude(code) >> k >= j; });
    set_bits(words, bit_at + kept_by(memory, block, before, j), plane);
    bit_at += kept_by(memory, block, groups, j);
  }
  const uint64_t signs = bits_of_kept(
      codes, [](uint8_t code) { return code != 0; }, [](uint8_t code) { return code >= 0x80; });
  set_bits(words, bit_at + kept_by(memory, block, before, 0), signs);
  if (!head.escaped) return;
  bit_at += kept_by(memory, block, groups, 0);
  bit_at += escape_bits(head) * kept_by(memory, block, before, kUnaryPlanes + 1);
  for (uint32_t i = 0; i < kPlaneGroup; ++i) {
    const uint32_t quotient = magnitude(codes[i]) >> k;
    if (quotient < kUnaryPlanes) continue;
    set_bits(words, bit_at, quotient);
    bit_at += escape_bits(head);
  }
}

// Writes heads and bodies from byte `byte_at` of `words` on, which are zero there.
LONGHAUL_HOST_DEVICE inline void set_planes(const Team& team, const PlaneTask& task,
                                            const PlaneMemory& memory, const Sums<uint32_t>& bodies,
                                            uint32_t byte_at, uint32_t* words) {
  team.each(task.groups(), [&](uint32_t group) {
    const uint32_t block = group / kGroupsInBlock;
    if (group % kGroupsInBlock == 0) {
      set_bits(words, 8 * (byte_at + block), memory.heads[block]);
    }
    const uint32_t body_at = byte_at + task.blocks() + bodies.before[block];
    set_group(task, memory, group, 8 * body_at, words);
  });
}

}  // namespace longhaul::cuda

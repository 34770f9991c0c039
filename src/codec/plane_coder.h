// Lossless coding of tiles: elements become byte planes (planes.h), and each plane is kept raw,
// Rice coded by rank (rank_coder.h) or made a zstd frame, whichever a sample says pays. On
// gradients only the plane of the exponents is coded. The codecs "zstd" and "lossless", and what
// "bf16" and "fp16" do to their two-byte elements. Format: docs/wire.md.
//
// Method: byte planes as in Blosc's shuffle (blosc.org) and ZipNN (arXiv:2411.05239).
#pragma once

#include "codec/plane_choice.h"
#include "codec/planes.h"
#include "codec/rank_coder.h"
#include "codec/scratch.h"
#include "codec/tile_coder.h"
#include "codec/zstd_coder.h"

namespace longhaul {

// Few enough that a tile and its planes stay in a core's L2, many enough that samples and tables
// cost next to nothing.
inline constexpr uint32_t kPlaneTileElements = 64 * 1024;

class PlaneCoder final : public TileCoder {
 public:
  // What skewed planes may become; planes with runs are zstd's in both cases.
  enum class Skewed : uint8_t { kHuffman, kRiceOrHuffman };

  PlaneCoder(Skewed skewed, SimdLevel level);

  size_t encode(const EncodeContext& context, ElementType type, ByteSpan elements,
                MutableByteSpan to) override;
  Result<void> decode(ElementType type, ByteSpan stored, MutableByteSpan elements) override;
  Result<void> decode_add(ElementType type, ByteSpan stored, std::span<float> sums,
                          float scale) override;

 private:
  struct Plan {
    PlaneChoice choice = PlaneChoice::kRaw;
    bool ranked = false;
    RankTable ranks;
  };
  using Plans = std::array<Plan, kMaxPlanes>;

  void choose_planes(ElementType type, ByteSpan tile);
  void plan_plane(ByteSpan sample, Plan& plan) const;
  // `soon`: memory that is needed next (bit_planes.h): the next tile's elements, or where decoded
  // ones go.
  size_t encode_plane(const Plan& plan, ByteSpan plane, const void* soon, uint8_t* descriptor,
                      MutableByteSpan to);
  Result<void> decode(ElementType type, ByteSpan stored, MutableByteSpan elements,
                      const void* soon);
  Result<const uint8_t*> decode_plane(size_t index, uint32_t descriptor, ByteSpan stored,
                                      size_t count, const void* soon);
  MutableByteSpan scratch_plane(size_t plane, size_t count);

  const Skewed skewed_;
  const SimdLevel level_;
  ZstdCoder zstd_;
  RankCoder rank_coder_;
  Plans plans_;  // of the tile that is being coded
  // The planes of one tile; pages that are not used cost nothing.
  Scratch scratch_;
  Scratch decoded_;  // of decode_add()
};

}  // namespace longhaul

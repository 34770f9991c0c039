// The codec "zstd", lossless: elements are cut into tiles that stay in the cache, a tile into byte
// planes (planes.h), and each plane is kept raw or becomes a zstd frame, whichever a sample says
// pays (plane_choice.h). On gradients only the plane of the exponents is coded. Format:
// docs/wire.md.
//
// Method: byte planes as in Blosc's shuffle (blosc.org) and ZipNN (arXiv:2411.05239).
#pragma once

#include <memory>

#include "codec/plane_choice.h"
#include "codec/planes.h"
#include "codec/zstd_coder.h"
#include "longhaul/codec/codec.h"

namespace longhaul {

class ZstdCodec final : public Codec {
 public:
  // `level` changes the speed, never the bytes.
  explicit ZstdCodec(SimdLevel level = best_simd_level());

  const CodecSpec& spec() const override { return spec_; }
  size_t max_payload_bytes(ElementType type, size_t element_count) const override;
  size_t encode(ElementType type, ByteSpan elements, MutableByteSpan payload) override;
  Result<void> decode(ElementType type, ByteSpan payload, MutableByteSpan elements) override;

 private:
  using PlaneChoices = std::array<PlaneChoice, kMaxPlanes>;

  PlaneChoices choose_planes(ElementType type, ByteSpan tile);
  size_t encode_tile(ElementType type, ByteSpan tile, MutableByteSpan payload);
  size_t encode_plane(PlaneChoice choice, ByteSpan plane, uint8_t* descriptor, MutableByteSpan to);
  Result<size_t> decode_tile(ElementType type, ByteSpan payload, MutableByteSpan tile);
  MutableByteSpan scratch_plane(size_t plane, size_t count);

  CodecSpec spec_{CodecSpec::Kind::kZstd};
  SimdLevel level_;
  ZstdCoder coder_;
  std::unique_ptr<uint8_t[]>
      scratch_;  // the planes of one tile; pages that are not used cost nothing
};

}  // namespace longhaul

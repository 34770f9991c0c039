// zstd as a coder of single byte planes: contexts that are set up once and used for every plane.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "codec/plane_choice.h"
#include "longhaul/base/bytes.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace longhaul {

// Thread safety: one thread at a time.
class ZstdCoder {
 public:
  ZstdCoder();

  // Writes one zstd frame; nullopt when it would not fit into `to`. Precondition: not kRaw.
  //
  // zstd has no level for these choices: levels below 1 switch Huffman off, level 1 spends most of
  // its time on matches that are not there. So all three use the fast strategy and set by hand how
  // far it steps between searches (targetLength: as far as it goes for kHuffman, so that nothing is
  // found) and whether what is left is Huffman coded.
  std::optional<size_t> encode(PlaneChoice choice, ByteSpan plane, MutableByteSpan to);

  // Fills exactly `plane`; false when the frame is damaged or of another size.
  bool decode(ByteSpan frame, MutableByteSpan plane);

 private:
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
    void operator()(ZSTD_DCtx_s* context) const;
  };
  using Compressor = std::unique_ptr<ZSTD_CCtx_s, Free>;
  using Decompressor = std::unique_ptr<ZSTD_DCtx_s, Free>;

  static Compressor make_compressor(PlaneChoice choice);

  std::array<Compressor, 3> compressors_;  // by choice
  Decompressor decompressor_;
};

}  // namespace longhaul

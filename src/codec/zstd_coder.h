// zstd as a coder of single byte planes: contexts that are set up once and used for every plane.
#pragma once

#include <memory>
#include <optional>

#include "longhaul/base/bytes.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace longhaul {

// Thread safety: one thread at a time.
class ZstdCoder {
 public:
  ZstdCoder();

  // Write one zstd frame; nullopt when it would not fit into `to`.
  //
  // Huffman only: no search for matches, entropy coding of all bytes. zstd has no level for it:
  // levels below 1 switch Huffman off, level 1 searches. The fast strategy with its longest step
  // (targetLength) finds nothing, and literal compression is forced on.
  std::optional<size_t> encode_huffman(ByteSpan plane, MutableByteSpan to);
  // Level 1: matches and Huffman.
  std::optional<size_t> encode_lz(ByteSpan plane, MutableByteSpan to);

  // Fills exactly `plane`; false when the frame is damaged or of another size.
  bool decode(ByteSpan frame, MutableByteSpan plane);

 private:
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
    void operator()(ZSTD_DCtx_s* context) const;
  };
  using Compressor = std::unique_ptr<ZSTD_CCtx_s, Free>;
  using Decompressor = std::unique_ptr<ZSTD_DCtx_s, Free>;

  static Compressor make_compressor();
  static std::optional<size_t> encode(ZSTD_CCtx_s* context, ByteSpan plane, MutableByteSpan to);

  Compressor huffman_;
  Compressor lz_;
  Decompressor decompressor_;
};

}  // namespace longhaul

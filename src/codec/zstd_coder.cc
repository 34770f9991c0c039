#include "codec/zstd_coder.h"

// Literal compression mode is a parameter of zstd's experimental API: its number is part of the
// shared library too, its name only of this view of the header.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include <new>

#include "longhaul/base/check.h"

namespace longhaul {
namespace {

void set_parameter(ZSTD_CCtx* context, ZSTD_cParameter parameter, int value) {
  const size_t code = ZSTD_CCtx_setParameter(context, parameter, value);
  LONGHAUL_CHECK(std::string_view(ZSTD_getErrorName(code)) == "No error detected");
}

}  // namespace

ZstdCoder::ZstdCoder()
    : huffman_(make_compressor()), lz_(make_compressor()), decompressor_(ZSTD_createDCtx()) {
  if (!decompressor_) throw std::bad_alloc();
  set_parameter(huffman_.get(), ZSTD_c_strategy, ZSTD_fast);
  set_parameter(huffman_.get(), ZSTD_c_targetLength, ZSTD_TARGETLENGTH_MAX);
  set_parameter(huffman_.get(), ZSTD_c_hashLog, ZSTD_HASHLOG_MIN);
  set_parameter(huffman_.get(), ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
  set_parameter(lz_.get(), ZSTD_c_compressionLevel, 1);
}

ZstdCoder::Compressor ZstdCoder::make_compressor() {
  Compressor context(ZSTD_createCCtx());
  if (!context) throw std::bad_alloc();
  return context;
}

std::optional<size_t> ZstdCoder::encode_huffman(ByteSpan plane, MutableByteSpan to) {
  return encode(huffman_.get(), plane, to);
}

std::optional<size_t> ZstdCoder::encode_lz(ByteSpan plane, MutableByteSpan to) {
  return encode(lz_.get(), plane, to);
}

std::optional<size_t> ZstdCoder::encode(ZSTD_CCtx_s* context, ByteSpan plane, MutableByteSpan to) {
  const size_t written = ZSTD_compress2(context, to.data(), to.size(), plane.data(), plane.size());
  if (ZSTD_isError(written)) return std::nullopt;
  return written;
}

bool ZstdCoder::decode(ByteSpan frame, MutableByteSpan plane) {
  const size_t written = ZSTD_decompressDCtx(decompressor_.get(), plane.data(), plane.size(),
                                             frame.data(), frame.size());
  return !ZSTD_isError(written) && written == plane.size();
}

void ZstdCoder::Free::operator()(ZSTD_CCtx_s* context) const {
  ZSTD_freeCCtx(context);
}
void ZstdCoder::Free::operator()(ZSTD_DCtx_s* context) const {
  ZSTD_freeDCtx(context);
}

}  // namespace longhaul

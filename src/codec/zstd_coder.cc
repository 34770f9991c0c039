#include "codec/zstd_coder.h"

// Literal compression mode is a parameter of zstd's experimental API: its number is part of the
// shared library too, its name only of this view of the header.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include <new>
#include <string_view>

#include "base/check.h"

namespace longhaul {
namespace {

void set_parameter(ZSTD_CCtx* context, ZSTD_cParameter parameter, int value) {
  // Compared as text, so that a check that fails prints zstd's own words.
  const size_t code = ZSTD_CCtx_setParameter(context, parameter, value);
  LONGHAUL_CHECK(std::string_view(ZSTD_getErrorName(code)) == "No error detected");
}

// No search at all; its table as small as it gets.
void search_nothing(ZSTD_CCtx* context) {
  set_parameter(context, ZSTD_c_targetLength, ZSTD_TARGETLENGTH_MAX);
  set_parameter(context, ZSTD_c_hashLog, ZSTD_HASHLOG_MIN);
}

// Runs are long (a zero row), chance matches short: steps of 32 bytes, matches of 7 or more, and a
// table that stays in L1. Two to eight times as fast as level 1, sizes within 4 %.
void search_runs(ZSTD_CCtx* context) {
  set_parameter(context, ZSTD_c_targetLength, 32);
  set_parameter(context, ZSTD_c_minMatch, 7);
  set_parameter(context, ZSTD_c_hashLog, 12);
}

size_t index_of(PlaneChoice choice) {
  const auto number = static_cast<size_t>(choice);
  LONGHAUL_CHECK(number > static_cast<size_t>(PlaneChoice::kRaw));
  return number - 1;
}

}  // namespace

ZstdCoder::ZstdCoder()
    : compressors_{make_compressor(PlaneChoice::kHuffman), make_compressor(PlaneChoice::kMatches),
                   make_compressor(PlaneChoice::kMatchesHuffman)},
      decompressor_(ZSTD_createDCtx()) {
  if (!decompressor_) throw std::bad_alloc();
}

ZstdCoder::Compressor ZstdCoder::make_compressor(PlaneChoice choice) {
  Compressor context(ZSTD_createCCtx());
  if (!context) throw std::bad_alloc();
  set_parameter(context.get(), ZSTD_c_strategy, ZSTD_fast);
  if (choice == PlaneChoice::kHuffman) {
    search_nothing(context.get());
  } else {
    search_runs(context.get());
  }
  set_parameter(context.get(), ZSTD_c_literalCompressionMode,
                choice == PlaneChoice::kMatches ? ZSTD_ps_disable : ZSTD_ps_enable);
  return context;
}

std::optional<size_t> ZstdCoder::encode(PlaneChoice choice, ByteSpan plane, MutableByteSpan to) {
  const size_t written = ZSTD_compress2(compressors_[index_of(choice)].get(), to.data(), to.size(),
                                        plane.data(), plane.size());
  if (ZSTD_isError(written)) return std::nullopt;
  return written;
}

// zstd never writes beyond plane.size(), whatever size a frame declares.
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

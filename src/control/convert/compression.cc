#include "control/convert/compression.h"

#include <zstd.h>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Changing this, or zstd itself, changes the bytes of a result: a try that goes on at a master's
// half file then fails at the checksum, and begins anew.
constexpr int kLevel = 1;
constexpr size_t kChecksumBytes = 4;

}  // namespace

std::string compress(std::string_view bytes) {
  std::string frame(ZSTD_compressBound(bytes.size()), '\0');
  frame.resize(ZSTD_compress(frame.data(), frame.size(), bytes.data(), bytes.size(), kLevel));
  return frame;
}

std::string compress_piece(std::string_view bytes) {
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     &ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
  std::string frame(ZSTD_compressBound(bytes.size()) + kChecksumBytes, '\0');
  frame.resize(
      ZSTD_compress2(context.get(), frame.data(), frame.size(), bytes.data(), bytes.size()));
  return frame;
}

struct Decompressor::Context {
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> zstd{ZSTD_createDCtx(), &ZSTD_freeDCtx};
  std::string out = std::string(ZSTD_DStreamOutSize(), '\0');
};

Decompressor::Decompressor() : context_(std::make_unique<Context>()) {}
Decompressor::~Decompressor() = default;

Result<void> Decompressor::add(std::string_view bytes, const Sink& sink) {
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  for (bool full = false; full || in.pos < in.size;) {
    ZSTD_outBuffer out{context_->out.data(), context_->out.size(), 0};
    const size_t left = ZSTD_decompressStream(context_->zstd.get(), &out, &in);
    if (ZSTD_isError(left) != 0) {
      return Failure{ErrorKind::kCorrupt, str_cat("its result is damaged after ", size_,
                                                  " bytes: ", ZSTD_getErrorName(left))};
    }
    between_frames_ = left == 0;
    // A full buffer may leave output inside zstd, with no input left: it is asked once more.
    full = out.pos == out.size && !between_frames_;
    size_ += out.pos;
    if (out.pos > 0 && !sink({context_->out.data(), out.pos})) return {};
  }
  return {};
}

Result<void> Decompressor::finish(uint64_t size) const {
  if (between_frames_ && size_ == size) return {};
  return Failure{ErrorKind::kCorrupt,
                 str_cat("its result ends after ", size_, " of ", size, " bytes")};
}

}  // namespace longhaul

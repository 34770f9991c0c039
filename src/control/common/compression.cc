#include "control/common/compression.h"

#include <zstd.h>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr int kLevel = 1;
constexpr uint64_t kMaxBytes = uint64_t{1} << 30;

}  // namespace

std::string compress(std::string_view bytes) {
  std::string frame(ZSTD_compressBound(bytes.size()), '\0');
  frame.resize(ZSTD_compress(frame.data(), frame.size(), bytes.data(), bytes.size(), kLevel));
  return frame;
}

Result<std::string> decompress(std::string_view frame, uint64_t size) {
  if (size > kMaxBytes) {
    return Failure{ErrorKind::kCorrupt, str_cat(size, " bytes are more than any result has")};
  }
  std::string bytes(size, '\0');
  const size_t done = ZSTD_decompress(bytes.data(), bytes.size(), frame.data(), frame.size());
  if (ZSTD_isError(done) != 0 || done != size) {
    return Failure{ErrorKind::kCorrupt, str_cat("its result cannot be decompressed to ", size,
                                                " bytes: ", ZSTD_getErrorName(done))};
  }
  return bytes;
}

}  // namespace longhaul

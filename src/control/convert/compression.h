// Results and other bytes of users as zstd frames.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "longhaul/base/result.h"

namespace longhaul {

// A result above this does not fit a message: it travels and lies as frames of so many bytes each,
// one after the other.
constexpr uint64_t kPieceBytes = uint64_t{256} << 10;

// Fast: a result is written once and read once.
std::string compress(std::string_view bytes);
// A frame that carries a checksum of its content, for one that is a part of a long row.
std::string compress_piece(std::string_view bytes);

// Frames one after the other that come cut anywhere. Memory: one frame's window.
// Thread safety: none.
class Decompressor {
 public:
  using Sink = std::function<bool(std::string_view bytes)>;

  Decompressor();
  ~Decompressor();
  // Gives what `bytes` hold to `sink`, until that returns false. Errors: kCorrupt.
  Result<void> add(std::string_view bytes, const Sink& sink);
  // How much has come out so far.
  uint64_t size() const { return size_; }
  // Errors: kCorrupt (the last frame is not whole, or it is not `size` bytes in all).
  Result<void> finish(uint64_t size) const;

 private:
  struct Context;
  std::unique_ptr<Context> context_;
  bool between_frames_ = true;
  uint64_t size_ = 0;
};

}  // namespace longhaul

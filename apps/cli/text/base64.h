// Base64 (RFC 4648, with padding), piece by piece.
#pragma once

#include <string>
#include <string_view>

namespace longhaul::cli {

// Thread safety: none.
class Base64 {
 public:
  // The letters of as many whole triples of bytes as have come.
  std::string add(std::string_view bytes);
  // The rest, padded; the next add() begins another text.
  std::string finish();

 private:
  std::string waiting_;  // fewer than three bytes
};

}  // namespace longhaul::cli

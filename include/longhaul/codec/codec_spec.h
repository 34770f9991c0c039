// How gradients travel, as a typed value with a text form: "none", "zstd". Lossy codecs will add
// fields ("int8:block=1024"); parse() is the one place that reads the text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "longhaul/base/result.h"

namespace longhaul {

struct CodecSpec {
  enum class Kind : unsigned char {
    kNone = 0,  // raw elements
    kZstd = 1,  // lossless: byte planes, Huffman-only zstd where it pays, raw planes elsewhere
  };
  Kind kind = Kind::kNone;

  // "zstd" -> CodecSpec. Errors: kInvalid, with the list of codecs and the nearest name.
  static Result<CodecSpec> parse(std::string_view text);
  static std::vector<std::string> names();

  // What is decoded is what was encoded, to the bit.
  bool lossless() const { return true; }

  std::string str() const;
  bool operator==(const CodecSpec&) const = default;
};

}  // namespace longhaul

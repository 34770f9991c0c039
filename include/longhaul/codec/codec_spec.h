// How gradients travel, as a typed value with a text form:
//
//   none                        raw elements
//   zstd                        lossless: byte planes, zstd frames where they pay
//   lossless                    lossless: byte planes, our bit-plane coder or zstd where they pay
//   bf16, fp16                  rounded to two bytes
//   int8:block=1024             8 bits an element, scaled by the largest of each block
//   rms:step=0.5,block=256      whole steps of 0.5 x the block's root mean square
//   rms:step=1,result=0.5       coarser on the way to the owner of a chunk, where the errors of the
//                               ranks average out, than on the way back (the second leg)
//   auto:error=0.2              not a codec: DistributedDataParallel picks among those above, as
//                               the links need it, none of which errs by more
//
// Lossy codecs take `stage=packed|rice|huffman` (what is done with the codes; docs/compression.md
// says which pays) and, but for fp16, `rounding=nearest|stochastic`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "longhaul/base/result.h"

namespace longhaul {

// Get one from parse() or of(): they fill in the defaults of its kind and keep the fields that the
// kind has no use for at zero, so that equal specs compare equal.
struct CodecSpec {
  // Values are on the wire (docs/wire.md).
  enum class Kind : unsigned char {
    kNone = 0,
    kZstd = 1,
    kLossless = 2,
    kBf16 = 3,
    kFp16 = 4,
    kInt8 = 5,
    kRms = 6,
    kAuto = 255,  // never on the wire
  };
  // What codes go through after rounding.
  enum class Stage : unsigned char {
    kPacked = 0,   // as they are
    kRice = 1,     // bit planes, Rice coded: fast
    kHuffman = 2,  // Huffman through zstd: up to 5 % smaller, several times slower
  };
  enum class Rounding : unsigned char {
    kNearest = 0,     // ties to even
    kStochastic = 1,  // up or down at random, right in the mean; the same bits on every run
  };

  Kind kind = Kind::kNone;
  Stage stage = Stage::kPacked;
  Rounding rounding = Rounding::kNearest;
  uint32_t block = 0;  // elements that share a scale: a power of two, 64 to 4096 (int8, rms)
  float step = 0;      // in units of the block's RMS, 1/32 to 8 (rms)
  float result = 0;    // step of the all-reduce's second leg; 0: as the first (rms)
  float error = 0;     // allowed: root mean square, relative to the gradient's; 0 to 1 (auto)

  // "rms:step=1" -> CodecSpec. Errors: kInvalid, with the codecs, options or values there are and
  // the nearest name, or the range.
  static Result<CodecSpec> parse(std::string_view text);
  // A kind with its defaults.
  static CodecSpec of(Kind kind);
  static std::vector<std::string> names();

  // What encodes the result in the all-reduce's second leg: this, but with its step.
  CodecSpec second_leg() const;
  // What is decoded is what was encoded, to the bit.
  bool lossless() const { return kind <= Kind::kLossless; }
  // Whether every field is one that parse() could have set.
  bool valid() const;

  // Reads back as the same value: "rms:step=0.5,block=256". Options at their default are left out,
  // but for those that name the rate.
  std::string str() const;
  bool operator==(const CodecSpec&) const = default;
};

}  // namespace longhaul

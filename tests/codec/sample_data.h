// Made-up elements for the codec tests, the same on every machine and run.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "codec/simd.h"
#include "longhaul/codec/codec.h"

namespace longhaul::testing {

enum class DataKind {
  kGradient,
  kZeros,
  kConstant,
  kRandomBits,
  kSparseRows,
  kSpecials,
  kTrueBf16
};

// Behind an output: they show a kernel that stores past its end.
inline constexpr size_t kGuardBytes = 64;

inline constexpr DataKind kAllDataKinds[] = {
    DataKind::kGradient,   DataKind::kZeros,    DataKind::kConstant, DataKind::kRandomBits,
    DataKind::kSparseRows, DataKind::kSpecials, DataKind::kTrueBf16};
inline constexpr ElementType kAllElementTypes[] = {ElementType::kFloat32, ElementType::kBFloat16,
                                                   ElementType::kFloat16, ElementType::kFloat64};

inline std::string to_string(DataKind kind) {
  constexpr const char* kNames[] = {"gradient",    "zeros",    "constant", "random bits",
                                    "sparse rows", "specials", "true bf16"};
  return kNames[static_cast<int>(kind)];
}

// Bits of `value` in `type`, cut, not rounded: tests need plausible bits, not good arithmetic.
inline uint64_t bits_of(ElementType type, double value) {
  const uint64_t wide = std::bit_cast<uint64_t>(value);
  const uint32_t single = std::bit_cast<uint32_t>(static_cast<float>(value));
  switch (type) {
    case ElementType::kFloat64:
      return wide;
    case ElementType::kFloat32:
      return single;
    case ElementType::kBFloat16:
      return single >> 16;
    case ElementType::kFloat16: {
      const int exponent = static_cast<int>(single >> 23 & 0xFF) - 127 + 15;
      const uint32_t sign = single >> 16 & 0x8000;
      if (exponent <= 0) return sign;
      if (exponent >= 31) return sign | 0x7C00;
      return sign | static_cast<uint32_t>(exponent) << 10 | (single >> 13 & 0x3FF);
    }
  }
  return 0;
}

// -0, infinities, NaNs with payloads, the smallest denormal, the largest number.
inline uint64_t special_bits(ElementType type, uint64_t draw) {
  const int width = static_cast<int>(element_bytes(type)) * 8;
  const uint64_t sign = uint64_t{1} << (width - 1);
  const uint64_t inf = bits_of(type, std::numeric_limits<double>::infinity());
  const uint64_t specials[] = {0, sign,     inf,    inf | sign, inf | 1, inf | sign | 3,
                               1, sign | 1, inf - 1};
  return specials[draw % std::size(specials)];
}

inline std::vector<uint8_t> make_elements(DataKind kind, ElementType type, size_t count,
                                          uint64_t seed = 7) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  const size_t width = element_bytes(type);
  std::vector<uint8_t> bytes(count * width);
  double scale = 1;
  for (size_t i = 0; i < count; ++i) {
    if (i % 1000 == 0) scale = std::exp2(-4 - static_cast<int>(random() % 8));
    uint64_t bits = 0;
    switch (kind) {
      case DataKind::kGradient:
        bits = bits_of(type, scale * normal(random));
        break;
      case DataKind::kZeros:
        break;
      case DataKind::kConstant:
        bits = bits_of(type, 0.1);
        break;
      case DataKind::kRandomBits:
        bits = random();
        break;
      case DataKind::kSparseRows:
        bits = i / 384 % 5 == 2 ? bits_of(type, normal(random)) : 0;
        break;
      case DataKind::kSpecials:
        bits = random() % 4 == 0 ? special_bits(type, random())
                                 : bits_of(type, scale * normal(random));
        break;
      case DataKind::kTrueBf16:  // the low bytes of wider types are zero
        bits = type == ElementType::kFloat16
                   ? bits_of(type, normal(random)) & 0xFF80
                   : bits_of(type, normal(random)) >> (width - 2) * 8 << (width - 2) * 8;
        break;
    }
    std::memcpy(bytes.data() + i * width, &bits, width);
  }
  return bytes;
}

inline std::vector<uint8_t> encode_all(Codec& codec, ElementType type, ByteSpan elements,
                                       const EncodeContext& context = {}) {
  std::vector<uint8_t> payload(
      codec.max_payload_bytes(type, elements.size() / element_bytes(type)));
  payload.resize(codec.encode(type, elements, payload, context));
  return payload;
}

// One of every codec, stage and rounding, and the ends of the ranges.
inline std::vector<CodecSpec> all_specs() {
  std::vector<CodecSpec> specs;
  for (const std::string& name : CodecSpec::names()) {
    // "auto" is a choice among the others, which no codec is made for.
    if (name != "auto") specs.push_back(*CodecSpec::parse(name));
  }
  for (const char* text :
       {"bf16:stage=rice", "bf16:stage=huffman", "bf16:rounding=stochastic", "fp16:stage=rice",
        "fp16:stage=huffman", "int8:block=64,stage=rice", "int8:block=4096,stage=huffman",
        "int8:rounding=stochastic", "rms:step=8,block=64", "rms:step=0.03125,block=4096",
        "rms:step=1,stage=packed", "rms:step=0.25,stage=huffman",
        "rms:step=2,rounding=stochastic"}) {
    specs.push_back(*CodecSpec::parse(text));
  }
  return specs;
}

inline std::vector<SimdLevel> levels() {
  std::vector<SimdLevel> all;
  for (const SimdLevel level : {SimdLevel::kScalar, SimdLevel::kAvx2, SimdLevel::kAvx512}) {
    if (level <= best_simd_level()) all.push_back(level);
  }
  return all;
}

}  // namespace longhaul::testing

#include "codec/plane_choice.h"

#include <array>
#include <cmath>

#include "longhaul/base/check.h"

namespace longhaul {
namespace {

// 1024 uniform bytes look like 7.8 bits each, because a sample shows less than there is; what is
// left of the 8 must pay for coding and decoding.
constexpr float kPayingBits = 7.4F;
// From one part in eight, matches save more than Huffman does on its own.
constexpr size_t kPayingRuns = 8;

using CostTable = std::array<float, kMaxSampleBytes + 1>;

CostTable make_cost_table() {
  CostTable table{};
  for (size_t n = 1; n < table.size(); ++n) {
    table[n] = static_cast<float>(n) * std::log2(static_cast<float>(n));
  }
  return table;
}

// Shannon's entropy of the sample in bits per byte: log2 N - sum(n log2 n) / N.
float entropy_bits(ByteSpan sample) {
  static const CostTable kCost = make_cost_table();
  std::array<uint16_t, 256> counts{};
  for (const uint8_t byte : sample) ++counts[byte];
  float sum = 0;
  for (const uint16_t count : counts) sum += kCost[count];
  return (kCost[sample.size()] - sum) / static_cast<float>(sample.size());
}

// How many words of 8 bytes are one byte repeated.
size_t count_runs(ByteSpan sample) {
  size_t runs = 0;
  for (size_t i = 0; i + 8 <= sample.size(); i += 8) {
    const uint64_t word = load<uint64_t>(sample.data() + i);
    runs += word == (word & 0xFF) * 0x0101010101010101U;
  }
  return runs;
}

}  // namespace

PlaneChoice choose_plane(ByteSpan sample) {
  LONGHAUL_CHECK(sample.size() <= kMaxSampleBytes);
  if (sample.empty()) return PlaneChoice::kRaw;
  if (count_runs(sample) * 8 * kPayingRuns > sample.size()) return PlaneChoice::kLz;
  return entropy_bits(sample) < kPayingBits ? PlaneChoice::kHuffman : PlaneChoice::kRaw;
}

}  // namespace longhaul

#include "codec/plane_choice.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"

namespace longhaul {
namespace {

// 1024 uniform bytes look like 7.8 bits each, because a sample shows less than there is; what is
// left of the 8 must pay for coding and decoding.
constexpr float kPayingBits = 7.4F;
// From one part in eight, matches save more than Huffman does on its own.
constexpr size_t kPayingRuns = 8;
constexpr size_t kWordBytes = 8;
// 256 uniform bytes show 162 values, give or take 5; bytes of 7.6 bits show 152 or more once in a
// hundred samples.
constexpr size_t kNoiseValues = 152;
constexpr size_t kNoiseEvery = 4;  // words; 256 bytes of a full sample

// n log2 n.
using CostTable = std::array<float, kMaxSampleBytes + 1>;

CostTable make_cost_table() {
  CostTable table{};
  for (size_t n = 1; n < table.size(); ++n) {
    table[n] = static_cast<float>(n) * std::log2(static_cast<float>(n));
  }
  return table;
}

using Counts = std::array<uint16_t, 256>;

// What a sample shows: its runs, and the bytes that are not in one.
struct Sample {
  size_t runs = 0;  // words of 8 bytes that are one byte repeated
  size_t others = 0;
  // Of the others, by the place in a word: a byte that is common would wait for its own counter
  // each time.
  std::array<Counts, 4> counts{};

  uint32_t count(size_t byte) const {
    return counts[0][byte] + counts[1][byte] + counts[2][byte] + counts[3][byte];
  }
};

bool is_run(uint64_t word) {
  return word == (word & 0xFF) * 0x0101010101010101U;
}

// A quick yes for most mantissas, which are most planes: no run, and nearly as many values as there
// can be.
bool is_noise(ByteSpan bytes) {
  if (bytes.size() != kMaxSampleBytes) return false;
  std::array<uint8_t, 256> seen{};
  size_t values = 0;
  for (size_t at = 0; at < bytes.size(); at += kWordBytes) {
    if (is_run(load<uint64_t>(bytes.data() + at))) return false;
    if (at % (kNoiseEvery * kWordBytes) != 0) continue;
    for (size_t i = 0; i < kWordBytes; ++i) {
      uint8_t& mark = seen[bytes[at + i]];
      values += 1U - mark;
      mark = 1;
    }
  }
  return values >= kNoiseValues;
}

Sample inspect(ByteSpan bytes) {
  Sample sample;
  for (; bytes.size() >= kWordBytes; bytes = bytes.subspan(kWordBytes)) {
    const uint64_t word = load<uint64_t>(bytes.data());
    if (is_run(word)) {
      ++sample.runs;
      continue;
    }
    sample.others += kWordBytes;
    for (size_t i = 0; i < kWordBytes; ++i) ++sample.counts[i % 4][bytes[i]];
  }
  return sample;
}

// Shannon's entropy in bits per byte, log2 N - sum(n log2 n) / N, against what pays. N bytes cannot
// show more than log2 N bits, and even 256 uniform ones show a bit less than 7.2.
bool is_skewed(const Sample& sample) {
  static const CostTable costs = make_cost_table();
  if (sample.others == 0) return false;
  std::array<float, 4> sums{};
  for (size_t byte = 0; byte < 256; byte += sums.size()) {
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += costs[sample.count(byte + i)];
  }
  const float sum = sums[0] + sums[1] + sums[2] + sums[3];
  const auto total = static_cast<float>(sample.others);
  const float most_bits = std::log2(total);
  return most_bits - sum / total < std::min(kPayingBits, most_bits - 1);
}

}  // namespace

PlaneChoice choose_plane(ByteSpan sample) {
  LONGHAUL_CHECK(sample.size() <= kMaxSampleBytes);
  if (is_noise(sample)) return PlaneChoice::kRaw;
  const Sample seen = inspect(sample);
  const bool skewed = is_skewed(seen);
  if (seen.runs * kWordBytes * kPayingRuns > sample.size()) {
    return skewed ? PlaneChoice::kMatchesHuffman : PlaneChoice::kMatches;
  }
  return skewed ? PlaneChoice::kHuffman : PlaneChoice::kRaw;
}

}  // namespace longhaul

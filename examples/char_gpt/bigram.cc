#include "examples/char_gpt/bigram.h"

#include <cmath>

namespace char_gpt {
namespace {
constexpr double kPseudoCount = 1;
}

BigramModel::BigramModel(std::string_view training) {
  std::array<uint64_t, kBytes> seconds = {};
  for (size_t i = 1; i < training.size(); ++i) {
    const auto previous = static_cast<unsigned char>(training[i - 1]);
    const auto next = static_cast<unsigned char>(training[i]);
    ++firsts_[previous];
    ++seconds[next];
    ++pairs_[previous][next];
  }
  const double total = static_cast<double>(training.empty() ? 0 : training.size() - 1) + kBytes;
  for (int byte = 0; byte < kBytes; ++byte) unigram_[byte] = (seconds[byte] + 1) / total;
}

double BigramModel::loss(unsigned char previous, unsigned char next) const {
  const double count = static_cast<double>(pairs_[previous][next]) + kPseudoCount * unigram_[next];
  return -std::log(count / (static_cast<double>(firsts_[previous]) + kPseudoCount));
}

}  // namespace char_gpt

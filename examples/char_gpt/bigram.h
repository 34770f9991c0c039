// The baseline a language model has to beat: the probability of a byte given the one before it,
// counted in the training text. Counts are smoothed with the unigram distribution (Jelinek-Mercer
// style with a pseudo-count, as in Chen & Goodman 1998): p(b|a) = (n(a,b) + k p(b)) / (n(a) + k).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace char_gpt {

class BigramModel {
 public:
  explicit BigramModel(std::string_view training);

  // Negative log probability of `next` after `previous`, in nats.
  double loss(unsigned char previous, unsigned char next) const;

 private:
  static constexpr int kBytes = 256;
  std::array<uint64_t, kBytes> firsts_ = {};                     // n(a)
  std::array<std::array<uint64_t, kBytes>, kBytes> pairs_ = {};  // n(a,b)
  std::array<double, kBytes> unigram_ = {};                      // p(b), add-one smoothed
};

}  // namespace char_gpt

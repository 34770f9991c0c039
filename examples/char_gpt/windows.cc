#include "examples/char_gpt/windows.h"

#include <algorithm>

namespace char_gpt {
namespace {

Batch cut(std::string_view text, const std::vector<int64_t>& starts, int64_t context) {
  const auto rows = static_cast<int64_t>(starts.size());
  Batch batch = {torch::empty({rows, context}, torch::kInt64),
                 torch::empty({rows, context}, torch::kInt64)};
  auto* inputs = batch.inputs.data_ptr<int64_t>();
  auto* targets = batch.targets.data_ptr<int64_t>();
  for (const int64_t start : starts) {
    for (int64_t i = start; i < start + context; ++i) {
      *inputs++ = static_cast<unsigned char>(text[i]);
      *targets++ = static_cast<unsigned char>(text[i + 1]);
    }
  }
  return batch;
}

}  // namespace

RandomWindows::RandomWindows(std::string_view text, int64_t batch, int64_t context, int64_t seed,
                             int rank)
    : text_(text), batch_(batch), context_(context) {
  std::seed_seq mixed{seed, static_cast<int64_t>(rank)};
  random_.seed(mixed);
}

Batch RandomWindows::next() {
  std::vector<int64_t> starts(batch_);
  for (int64_t& start : starts) {
    start = static_cast<int64_t>(random_() % (text_.size() - context_));
  }
  return cut(text_, starts, context_);
}

HeldOutWindows::HeldOutWindows(std::string_view text, int64_t context, int64_t count)
    : text_(text), context_(context) {
  const auto places = static_cast<int64_t>(text.size()) - context;  // a target follows each window
  const int64_t windows = std::clamp<int64_t>(places / context, 1, count);
  for (int64_t i = 0; i < windows; ++i) starts_.push_back(places * i / windows);
}

Batch HeldOutWindows::range(int64_t begin, int64_t end) const {
  return cut(text_, {starts_.begin() + begin, starts_.begin() + end}, context_);
}

double HeldOutWindows::score(const BigramModel& bigram) const {
  double sum = 0;
  for (const int64_t start : starts_) {
    for (int64_t i = start; i < start + context_; ++i) {
      sum += bigram.loss(static_cast<unsigned char>(text_[i]),
                         static_cast<unsigned char>(text_[i + 1]));
    }
  }
  return sum / static_cast<double>(size() * context_);
}

}  // namespace char_gpt

// Real gradients to measure codecs on, besides those of examples/char_gpt: each model trains for a
// few steps on one thread, then flat little-endian fp32 files are written.
//
//   gradients TEXT_FOLDER OUTPUT_FOLDER
//
//   cnn.f32             one step's gradients of a convolutional net (3.9 M parameters) on made
//                       images: a pattern per class, and noise
//   words_16k.f32       those of a transformer (4.6 M) over 16384 words of the text's headers: most
//                       rows of the embedding's gradient are zero
//   cnn_local_8.f32,    what 8 steps of AdamW change in the parameters, as local-step training
//   words_16k_local_8.f32   sends it
#include <torch/torch.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bench/reference_training.h"

namespace longhaul::bench {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kWarmUpSteps = 30;
constexpr int64_t kLocalSteps = 8;
constexpr int64_t kBatch = 16;

// ---- Images

constexpr int64_t kClasses = 10;
constexpr int64_t kSide = 32;

torch::nn::Sequential make_cnn() {
  using namespace torch::nn;
  Sequential net;
  int64_t channels = 3;
  for (const int64_t wider : {64, 128, 256, 512, 512}) {
    net->push_back(Conv2d(Conv2dOptions(channels, wider, 3).padding(1).bias(false)));
    net->push_back(BatchNorm2d(wider));
    net->push_back(ReLU());
    if (channels != wider) net->push_back(MaxPool2d(2));
    channels = wider;
  }
  net->push_back(AdaptiveAvgPool2d(1));
  net->push_back(Flatten());
  net->push_back(Linear(channels, kClasses));
  return net;
}

// A pattern per class, seen through ten times as much noise.
struct Images {
  torch::Tensor patterns = torch::randn({kClasses, 3, kSide, kSide});

  std::pair<torch::Tensor, torch::Tensor> next() const {
    const torch::Tensor classes = torch::randint(kClasses, {kBatch}, torch::kInt64);
    const torch::Tensor noise = 10 * torch::randn({kBatch, 3, kSide, kSide});
    return {patterns.index_select(0, classes) + noise, classes};
  }
};

// ---- Words

constexpr TransformerShape kWordsShape = {16384, 128, 4, 2};
constexpr int64_t kWordsTime = 64;
constexpr size_t kMostTextBytes = 8'000'000;

std::string headers_below(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() == ".h") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::string text;
  for (size_t i = 0; i < paths.size() && text.size() < kMostTextBytes; ++i) {
    std::ifstream file(paths[i], std::ios::binary);
    text.append(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return text;
}

bool in_word(char c) {
  return c == '_' || std::isalnum(static_cast<unsigned char>(c)) != 0;
}

// Identifiers, numbers, and single other characters but spaces.
std::vector<std::string> split_words(const std::string& text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && in_word(text[end])) ++end;
    if (end == at) ++end;
    if (std::isspace(static_cast<unsigned char>(text[at])) == 0) {
      words.push_back(text.substr(at, end - at));
    }
    at = end;
  }
  return words;
}

// Words by their rank of frequency; the last number stands for all rarer ones.
torch::Tensor numbered(const std::vector<std::string>& words) {
  std::map<std::string, int64_t> counts;
  for (const std::string& word : words) ++counts[word];
  std::vector<std::pair<int64_t, std::string>> ranked;
  for (const auto& [word, count] : counts) ranked.emplace_back(-count, word);
  std::sort(ranked.begin(), ranked.end());
  for (size_t rank = 0; rank < ranked.size(); ++rank) {
    counts[ranked[rank].second] = std::min(static_cast<int64_t>(rank), kWordsShape.vocabulary - 1);
  }
  torch::Tensor tokens = torch::empty({static_cast<int64_t>(words.size())}, torch::kInt64);
  for (size_t i = 0; i < words.size(); ++i) tokens.data_ptr<int64_t>()[i] = counts[words[i]];
  return tokens;
}

struct Words {
  torch::Tensor tokens;

  std::pair<torch::Tensor, torch::Tensor> next() const {
    const torch::Tensor first =
        torch::randint(tokens.numel() - kWordsTime - 1, {kBatch, 1}, torch::kInt64);
    const torch::Tensor at = first + torch::arange(kWordsTime + 1);
    const torch::Tensor windows = tokens.index_select(0, at.flatten()).view_as(at);
    return {windows.narrow(1, 0, kWordsTime).contiguous(),
            windows.narrow(1, 1, kWordsTime).contiguous()};
  }
};

// ---- Training

torch::Tensor flat(const std::vector<torch::Tensor>& tensors) {
  std::vector<torch::Tensor> parts;
  for (const torch::Tensor& tensor : tensors) parts.push_back(tensor.detach().flatten());
  return torch::cat(parts);
}

void write(const torch::Tensor& values, const fs::path& path) {
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(values.const_data_ptr()),
             static_cast<std::streamsize>(values.nbytes()));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

// `loss` is that of a new batch. Writes NAME.f32 and NAME_local_8.f32.
void train(const std::vector<torch::Tensor>& parameters, const std::function<torch::Tensor()>& loss,
           const fs::path& folder, const std::string& name) {
  torch::optim::AdamW optimizer(parameters, torch::optim::AdamWOptions(1e-3));
  const auto steps = [&](int64_t count) {
    for (int64_t step = 0; step < count; ++step) {
      optimizer.zero_grad();
      loss().backward();
      optimizer.step();
    }
  };
  steps(kWarmUpSteps);
  std::vector<torch::Tensor> gradients;
  for (const torch::Tensor& parameter : parameters) gradients.push_back(parameter.grad());
  write(flat(gradients), folder / (name + ".f32"));
  const torch::Tensor before = flat(parameters);
  steps(kLocalSteps);
  write(flat(parameters) - before,
        folder / (name + "_local_" + std::to_string(kLocalSteps) + ".f32"));
}

void run(const fs::path& text, const fs::path& folder) {
  torch::set_num_threads(1);
  torch::manual_seed(1);
  fs::create_directories(folder);

  torch::nn::Sequential cnn = make_cnn();
  const Images images;
  const auto image_loss = [&] {
    const auto [inputs, classes] = images.next();
    return torch::nn::functional::cross_entropy(cnn->forward(inputs), classes);
  };
  train(cnn->parameters(), image_loss, folder, "cnn");

  Transformer transformer(kWordsShape);
  const Words words{numbered(split_words(headers_below(text)))};
  const auto word_loss = [&] {
    const auto [inputs, targets] = words.next();
    return token_loss(transformer->forward(inputs), targets);
  };
  train(transformer->parameters(), word_loss, folder, "words_16k");
}

}  // namespace
}  // namespace longhaul::bench

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: gradients TEXT_FOLDER OUTPUT_FOLDER\n", stderr);
    return 64;
  }
  try {
    longhaul::bench::run(argv[1], argv[2]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gradients: %s\n", error.what());
    return 1;
  }
}

#include "examples/char_gpt/text.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <vector>

#include "longhaul/base/strings.h"

namespace char_gpt {
namespace {

namespace fs = std::filesystem;
using longhaul::ErrorKind;
using longhaul::Failure;
using longhaul::Result;
using longhaul::str_cat;

constexpr size_t kHeldOutEvery = 16;  // files

Failure unreadable(const std::string& message) {
  return {ErrorKind::kInvalid, message};
}

bool is_text(const fs::path& path) {
  static constexpr std::array<std::string_view, 14> kEndings = {
      ".h",  ".hh", ".hpp", ".cuh", ".c",   ".cc",  ".cpp",
      ".cu", ".py", ".md",  ".rst", ".tex", ".txt", ".text"};
  return std::find(kEndings.begin(), kEndings.end(), path.extension().string()) != kEndings.end();
}

Result<std::vector<fs::path>> list_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::recursive_directory_iterator walk(folder, error);
  for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
    std::error_code ignored;
    if (walk->is_regular_file(ignored) && is_text(walk->path())) files.push_back(walk->path());
  }
  if (error)
    return unreadable(str_cat("cannot read the folder ", folder.string(), ": ", error.message()));
  if (files.empty()) return unreadable(str_cat("no source or text files below ", folder.string()));
  std::sort(files.begin(), files.end());
  return files;
}

// Appends at most `limit` bytes of the file.
Result<void> append_file(const fs::path& path, int64_t limit, std::string* text) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return unreadable(str_cat("cannot read ", path.string()));
  const int64_t bytes = std::min<int64_t>(file.tellg(), limit);
  const size_t begin = text->size();
  text->resize(begin + bytes);
  file.seekg(0);
  file.read(text->data() + begin, bytes);
  if (!file) return unreadable(str_cat("cannot read ", bytes, " bytes of ", path.string()));
  return {};
}

void hold_out_tail(Corpus* corpus) {
  const size_t keep = corpus->training.size() - corpus->training.size() / 10;
  corpus->held_out = corpus->training.substr(keep);
  corpus->training.resize(keep);
}

Result<Corpus> read_files(const std::vector<fs::path>& files, int64_t max_bytes) {
  Corpus corpus;
  for (size_t i = 0; i < files.size(); ++i) {
    const int64_t room =
        max_bytes - static_cast<int64_t>(corpus.training.size() + corpus.held_out.size());
    if (room <= 0) break;
    std::string* part =
        i % kHeldOutEvery == kHeldOutEvery - 1 ? &corpus.held_out : &corpus.training;
    if (Result<void> read = append_file(files[i], room, part); !read) return read.failure();
  }
  if (corpus.held_out.empty()) hold_out_tail(&corpus);
  return corpus;
}

}  // namespace

Result<Corpus> load_corpus(const std::string& path, int64_t max_bytes, int64_t context) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return unreadable(str_cat("the text ", path, " does not exist"));
  std::vector<fs::path> files = {path};
  if (fs::is_directory(status)) {
    Result<std::vector<fs::path>> found = list_files(path);
    if (!found) return found.failure();
    files = *std::move(found);
  }
  Result<Corpus> corpus = read_files(files, max_bytes);
  if (!corpus) return corpus;
  const auto shorter =
      static_cast<int64_t>(std::min(corpus->training.size(), corpus->held_out.size()));
  if (corpus->training.empty()) return unreadable(str_cat("the text ", path, " is empty"));
  if (shorter < context + 1) {
    return unreadable(str_cat("the text ", path, " is too short: ", corpus->training.size(),
                              " bytes for training and ", corpus->held_out.size(),
                              " held out, and a window takes ", context + 1));
  }
  return corpus;
}

}  // namespace char_gpt

// Output of several commands, line by line, with the host in front: "[2] step 7".
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace longhaul::linkem {

// One stream of one command.
class LinePrefixer {
 public:
  explicit LinePrefixer(std::string prefix) : prefix_(std::move(prefix)) {}

  // The lines that `piece` completes; a line of 64 KiB is cut, so that memory has a bound.
  std::string add(std::string_view piece) {
    partial_ += piece;
    std::string lines;
    size_t begin = 0;
    for (size_t end = partial_.find('\n'); end != std::string::npos;
         end = partial_.find('\n', begin)) {
      lines += prefix_ + partial_.substr(begin, end + 1 - begin);
      begin = end + 1;
    }
    partial_.erase(0, begin);
    return partial_.size() < kLongestLine ? lines : lines + flush();
  }

  // What is left without an end of line, completed; "" when nothing is.
  std::string flush() {
    return partial_.empty() ? "" : prefix_ + std::exchange(partial_, {}) + "\n";
  }

 private:
  static constexpr size_t kLongestLine = size_t{64} << 10;

  std::string prefix_;
  std::string partial_;
};

}  // namespace longhaul::linkem

// The last lines of a stream, bounded in number and bytes: what a failure report shows.
// Thread safety: none.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace longhaul {

class LastLines {
 public:
  static constexpr size_t kMaxLines = 20;
  static constexpr size_t kMaxLineBytes = 500;

  void append(std::string_view data);
  // Oldest first, as UTF-8; the last one may lack its end.
  std::vector<std::string> lines() const;
  bool empty() const { return lines_.empty() && current_.empty(); }

 private:
  std::deque<std::string> lines_;
  std::string current_;
};

// `bytes` with U+FFFD for every byte that is not UTF-8: protobuf's strings take nothing else.
std::string to_utf8(std::string_view bytes);

}  // namespace longhaul

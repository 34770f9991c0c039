#include "control/worker/output/last_lines.h"

#include <algorithm>
#include <cstddef>

namespace longhaul {
namespace {

// Length of the UTF-8 sequence that starts with `first`; 0 when none does.
size_t sequence_length(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first < 0xE0) return 2;
  if (first >= 0xE0 && first < 0xF0) return 3;
  if (first >= 0xF0 && first < 0xF5) return 4;
  return 0;
}

bool is_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

// Overlong forms and surrogates, which protobuf refuses too.
bool is_bad_pair(unsigned char first, unsigned char second) {
  return (first == 0xE0 && second < 0xA0) || (first == 0xED && second >= 0xA0) ||
         (first == 0xF0 && second < 0x90) || (first == 0xF4 && second >= 0x90);
}

bool is_sequence(std::string_view text, size_t length) {
  if (length == 0 || length > text.size()) return false;
  if (length > 1 &&
      is_bad_pair(static_cast<unsigned char>(text[0]), static_cast<unsigned char>(text[1]))) {
    return false;
  }
  return std::all_of(text.begin() + 1, text.begin() + static_cast<std::ptrdiff_t>(length),
                     is_continuation);
}

}  // namespace

std::string to_utf8(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const size_t length = sequence_length(static_cast<unsigned char>(bytes[0]));
    const bool good = is_sequence(bytes, length);
    text.append(good ? bytes.substr(0, length) : "\xEF\xBF\xBD");
    bytes.remove_prefix(good ? length : 1);
  }
  return text;
}

void LastLines::append(std::string_view data) {
  while (!data.empty()) {
    const size_t line_end = data.find('\n');
    const std::string_view part = data.substr(0, line_end);
    // The rest of a long line is dropped, so memory is bounded for a stream without line ends.
    const size_t room = kMaxLineBytes - std::min(kMaxLineBytes, current_.size());
    current_.append(part.substr(0, room));
    if (line_end == std::string_view::npos) return;
    lines_.push_back(std::move(current_));
    current_.clear();
    if (lines_.size() > kMaxLines) lines_.pop_front();
    data.remove_prefix(line_end + 1);
  }
}

std::vector<std::string> LastLines::lines() const {
  std::vector<std::string> all;
  all.reserve(lines_.size() + 1);
  for (const std::string& line : lines_) all.push_back(to_utf8(line));
  if (!current_.empty()) all.push_back(to_utf8(current_));
  if (all.size() > kMaxLines) all.erase(all.begin());
  return all;
}

}  // namespace longhaul

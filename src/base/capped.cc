#include "base/capped.h"

#include <algorithm>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

bool continues_a_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U;
}

// The last place up to `at` where a character ends. A character of UTF-8 has at most four bytes, so
// it is near; what is no UTF-8 may have no such place, and is cut at `at`.
size_t end_of_a_character(const std::string& text, size_t at) {
  size_t end = at;
  while (end > 0 && at - end < 4 && continues_a_character(text[end])) --end;
  return continues_a_character(text[end]) ? at : end;
}

}  // namespace

std::string capped(std::string text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  constexpr size_t kNote = 48;
  const size_t kept = end_of_a_character(text, max_bytes - kNote);
  const size_t left_out = text.size() - kept;
  text.resize(kept);
  text.shrink_to_fit();
  return str_cat(text, " [... ", left_out, " bytes left out]");
}

std::vector<std::string> capped(std::vector<std::string> lines, size_t max_lines,
                                size_t max_bytes) {
  if (lines.size() > max_lines)
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(max_lines));
  for (std::string& line : lines) line = capped(std::move(line), max_bytes);
  return lines;
}

}  // namespace longhaul

#include "apps/cli/text/terminal_text.h"

#include <algorithm>

#include "base/printable.h"

namespace longhaul::cli {
namespace {

constexpr char kEscape = '\x1b';

bool is_between(char byte, char first, char last) {
  return byte >= first && byte <= last;
}

// Bytes of the escape sequence that `text` begins with (ECMA-48): CSI with its parameters, a string
// (OSC, DCS, ...) with its terminator, or one that is a few letters long. 0: none that is whole.
size_t escape_length(std::string_view text) {
  if (text.size() < 2 || text[0] != kEscape) return 0;
  size_t at = 2;
  if (text[1] == '[') {
    while (at < text.size() && is_between(text[at], '\x20', '\x3f')) ++at;
    return at < text.size() && is_between(text[at], '\x40', '\x7e') ? at + 1 : 0;
  }
  if (std::string_view("]PX^_").find(text[1]) != std::string_view::npos) {
    for (; at < text.size(); ++at) {
      if (text[at] == '\a') return at + 1;
      if (text[at] == kEscape && at + 1 < text.size() && text[at + 1] == '\\') return at + 2;
    }
    return 0;
  }
  at = 1;
  while (at < text.size() && is_between(text[at], '\x20', '\x2f')) ++at;
  return at < text.size() && is_between(text[at], '\x30', '\x7e') ? at + 1 : 0;
}

std::string without_escapes(std::string_view line) {
  std::string text;
  while (!line.empty()) {
    const size_t begin = std::min(line.find(kEscape), line.size());
    text += line.substr(0, begin);
    line.remove_prefix(begin);
    if (line.empty()) break;
    const size_t length = escape_length(line);
    // It begins no whole sequence. The byte stays, and printable_line() makes it harmless.
    if (length == 0) text += kEscape;
    line.remove_prefix(std::max<size_t>(length, 1));
  }
  return text;
}

// A carriage return draws the line anew over itself, as progress bars do. Only the last drawing
// that shows something would be seen.
std::string_view last_picture(std::string_view line) {
  while (line.ends_with('\r')) line.remove_suffix(1);
  const size_t before = line.rfind('\r');
  return before == std::string_view::npos ? line : line.substr(before + 1);
}

}  // namespace

std::string terminal_text(std::string_view lines) {
  std::string text;
  while (!lines.empty()) {
    const size_t end = lines.find('\n');
    const std::string line = without_escapes(lines.substr(0, end));
    text += printable_line(last_picture(line));
    if (end == std::string_view::npos) break;
    text += '\n';
    lines.remove_prefix(end + 1);
  }
  return text;
}

}  // namespace longhaul::cli

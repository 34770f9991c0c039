#include "base/printable.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>

namespace longhaul {
namespace {

struct Character {
  size_t bytes = 0;  // 0: no UTF-8
  uint32_t point = 0;
};

uint8_t byte_at(std::string_view text, size_t at) {
  return static_cast<uint8_t>(text[at]);
}

// Of the form that a leading byte announces: its length, its own bits, the lowest code point that
// needs so many bytes.
struct Form {
  size_t bytes;
  uint8_t mask;
  uint32_t lowest;
};

Form form_of(uint8_t lead) {
  if (lead < 0x80) return {1, 0x7F, 0};
  if (lead >= 0xC2 && lead < 0xE0) return {2, 0x1F, 0x80};
  if (lead >= 0xE0 && lead < 0xF0) return {3, 0x0F, 0x800};
  if (lead >= 0xF0 && lead < 0xF5) return {4, 0x07, 0x10000};
  return {0, 0, 0};
}

Character first_character(std::string_view text) {
  const Form form = form_of(byte_at(text, 0));
  if (form.bytes == 0 || text.size() < form.bytes) return {};
  uint32_t point = byte_at(text, 0) & form.mask;
  for (size_t i = 1; i < form.bytes; ++i) {
    if ((byte_at(text, i) & 0xC0U) != 0x80U) return {};
    point = point << 6U | (byte_at(text, i) & 0x3FU);
  }
  const bool surrogate = point >= 0xD800 && point < 0xE000;
  if (point < form.lowest || surrogate || point > 0x10FFFF) return {};
  return {form.bytes, point};
}

bool is_control(uint32_t point) {
  return point < 0x20 || (point >= 0x7F && point < 0xA0);
}

// Separators of lines, and marks that turn the text after them around.
bool is_deceptive(uint32_t point) {
  return (point >= 0x2028 && point <= 0x202E) || (point >= 0x2066 && point <= 0x2069) ||
         point == 0x200E || point == 0x200F || point == 0x061C || point == 0xFEFF;
}

std::string formatted(const char* pattern, uint32_t number) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), pattern, number);
  return text.data();
}

std::string escaped(uint32_t point) {
  switch (point) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return formatted(point < 0x80 ? "\\x%02x" : "\\u{%x}", point);
  }
}

std::string made_printable(std::string_view text, bool keep_tabs) {
  std::string shown;
  shown.reserve(text.size());
  while (!text.empty()) {
    const auto [bytes, point] = first_character(text);
    if (bytes == 0) {
      shown += formatted("\\x%02x", byte_at(text, 0));
    } else if ((is_control(point) && !(keep_tabs && point == '\t')) || is_deceptive(point)) {
      shown += escaped(point);
    } else {
      shown += text.substr(0, bytes);
    }
    text.remove_prefix(std::max<size_t>(bytes, 1));
  }
  return shown;
}

}  // namespace

std::string printable(std::string_view text) {
  return made_printable(text, false);
}

std::string printable_line(std::string_view text) {
  return made_printable(text, true);
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t bytes = character_length(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

size_t character_length(std::string_view text) {
  return first_character(text).bytes;
}

size_t display_width(std::string_view text) {
  size_t width = 0;
  for (; !text.empty(); ++width) {
    text.remove_prefix(std::max<size_t>(character_length(text), 1));
  }
  return width;
}

std::string shorten(std::string_view text, size_t width) {
  if (display_width(text) <= width) return std::string(text);
  const size_t kept = width > 2 ? width - 2 : width;
  size_t end = 0;
  for (size_t i = 0; i < kept; ++i) {
    end += std::max<size_t>(character_length(text.substr(end)), 1);
  }
  return std::string(text.substr(0, end)) + (width > 2 ? ".." : "");
}

}  // namespace longhaul

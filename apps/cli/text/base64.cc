#include "apps/cli/text/base64.h"

#include <cstdint>

namespace longhaul::cli {
namespace {

constexpr std::string_view kLetters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// Of one to three bytes: a letter for each six bits of them.
void append_letters(std::string_view bytes, std::string* text) {
  uint32_t bits = 0;
  for (size_t i = 0; i < 3; ++i) {
    bits = bits << 8U | (i < bytes.size() ? static_cast<uint8_t>(bytes[i]) : 0U);
  }
  for (size_t i = 0; i <= bytes.size(); ++i) {
    *text += kLetters[bits >> (18 - 6 * i) & 63U];
  }
}

}  // namespace

std::string Base64::add(std::string_view bytes) {
  waiting_ += bytes;
  std::string text;
  text.reserve(waiting_.size() / 3 * 4);
  const std::string_view all = waiting_;
  size_t at = 0;
  for (; at + 3 <= all.size(); at += 3) append_letters(all.substr(at, 3), &text);
  waiting_.erase(0, at);
  return text;
}

std::string Base64::finish() {
  std::string text;
  if (!waiting_.empty()) {
    append_letters(waiting_, &text);
    text.append(3 - waiting_.size(), '=');
  }
  waiting_.clear();
  return text;
}

}  // namespace longhaul::cli

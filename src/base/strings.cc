#include "longhaul/base/strings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>

namespace longhaul {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::string format(double value, std::chars_format format, int digits) {
  std::array<char, 400> text{};  // the longest double has 309 digits before its point
  const auto [end, error] =
      std::to_chars(text.data(), text.data() + text.size(), value, format, digits);
  return error == std::errc() ? std::string(text.data(), end) : "?";
}

std::string two_digits(long number) {
  return str_cat(number < 10 ? "0" : "", number);
}

}  // namespace

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string text;
  for (const std::string& part : parts) {
    if (!text.empty() || &part != &parts.front()) text += separator;
    text += part;
  }
  return text;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end = text.find(separator); end != std::string_view::npos;
       end = text.find(separator, begin)) {
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  parts.emplace_back(text.substr(begin));
  return parts;
}

std::string format_fixed(double value, int digits) {
  return format(value, std::chars_format::fixed, digits);
}

std::string format_general(double value, int digits) {
  return format(value, std::chars_format::general, digits);
}

std::string format_bytes(uint64_t bytes) {
  constexpr std::array kUnits = {"B", "kB", "MB", "GB", "TB", "PB"};
  if (bytes < 1000) return str_cat(bytes, " B");
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  const int digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return str_cat(format_fixed(value, digits), " ", kUnits[unit]);
}

std::string format_seconds(double seconds) {
  if (seconds < 60) return str_cat(format_fixed(seconds, 1), "s");
  const auto whole = static_cast<long>(seconds + 0.5);
  if (whole < 3600) return str_cat(whole / 60, "m", two_digits(whole % 60), "s");
  return str_cat(whole / 3600, "h", two_digits(whole / 60 % 60), "m");
}

std::string closest_match(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::min<size_t>(2, word.size() / 2) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace longhaul

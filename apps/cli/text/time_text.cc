#include "apps/cli/text/time_text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <ctime>
#include <utility>

namespace longhaul::cli {
namespace {

constexpr double kLongest = 1e6 * 86'400'000;  // ms; beyond it nothing means anything

std::optional<uint64_t> to_unix_ms(std::tm fields, bool utc) {
  // mktime() finds out whether summer time holds at that moment.
  fields.tm_isdst = -1;
  const std::time_t seconds = utc ? ::timegm(&fields) : std::mktime(&fields);
  if (seconds < 0) return std::nullopt;
  return static_cast<uint64_t>(seconds) * 1000;
}

}  // namespace

std::optional<milliseconds> parse_duration(const std::string& text) {
  constexpr std::array kUnits = {std::pair{"", 1000.0}, std::pair{"s", 1000.0},
                                 std::pair{"ms", 1.0},  std::pair{"m", 60'000.0},
                                 std::pair{"h", 3.6e6}, std::pair{"d", 86.4e6}};
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || !(number >= 0)) return std::nullopt;
  for (const auto& [unit, unit_ms] : kUnits) {
    if (std::string(rest, end) != unit || number * unit_ms > kLongest) continue;
    return milliseconds(std::llround(number * unit_ms));
  }
  return std::nullopt;
}

std::optional<uint64_t> parse_since(const std::string& text, int64_t now_unix_ms) {
  if (const auto ago = parse_duration(text)) {
    return static_cast<uint64_t>(std::max<int64_t>(1, now_unix_ms - ago->count()));
  }
  if (text.starts_with("@")) {
    const auto since_epoch = parse_duration(text.substr(1) + "s");
    if (!since_epoch) return std::nullopt;
    return static_cast<uint64_t>(since_epoch->count());
  }
  const bool utc = text.ends_with("Z");
  const std::string plain = utc ? text.substr(0, text.size() - 1) : text;
  const std::time_t now = now_unix_ms / 1000;
  for (const char* pattern : {"%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
                              "%Y-%m-%dT%H:%M:%S", "%H:%M", "%H:%M:%S"}) {
    std::tm fields = {};
    // A time without a date is one of today.
    if (pattern[1] == 'H') {
      utc ? ::gmtime_r(&now, &fields) : ::localtime_r(&now, &fields);
      fields.tm_sec = 0;
    }
    const char* const end = ::strptime(plain.c_str(), pattern, &fields);
    if (end != nullptr && *end == '\0') return to_unix_ms(fields, utc);
  }
  return std::nullopt;
}

std::string format_time(uint64_t unix_ms) {
  const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm fields = {};
  ::localtime_r(&seconds, &fields);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &fields);
  return text.data();
}

}  // namespace longhaul::cli

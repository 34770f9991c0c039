// Small text helpers: concatenation, numbers, human units, did-you-mean. All of them write numbers
// as the "C" locale does, whatever std::locale::global() or setlocale() the program has called:
// what they make goes over wires, into keys, paths, logs and JSON (tests/lint/locale_test.py).
#pragma once

#include <cstdint>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace longhaul {

// The arguments as `<<` prints them, one after the other.
template <typename... Args>
std::string str_cat(const Args&... args) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  (out << ... << args);
  return out.str();
}

std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::vector<std::string> split(std::string_view text, char separator);

// As printf's "%.<digits>f" and "%.<digits>g" in the "C" locale: "3.14", "1.5e+06".
std::string format_fixed(double value, int digits);
std::string format_general(double value, int digits);

// "1.5 MB", "320 B": decimal units, three significant digits.
std::string format_bytes(uint64_t bytes);

// "1h02m", "3m05s", "12.3s".
std::string format_seconds(double seconds);

// The candidate within edit distance 2 of `word` (and less than half its length away), or "" when
// none is near: "did you mean '--ranks'?".
std::string closest_match(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace longhaul

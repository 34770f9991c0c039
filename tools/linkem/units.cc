#include "tools/linkem/units.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <span>

#include "longhaul/base/strings.h"

namespace longhaul::linkem {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

struct Quantity {
  double number;
  std::string unit;  // lower case
};

// "25mbit" -> 25, "mbit". Nothing for text that does not start with a plain number >= 0.
std::optional<Quantity> split_quantity(std::string_view text) {
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number) || std::signbit(number)) return std::nullopt;
  std::string unit(end, text.data() + text.size());
  for (char& letter : unit) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return Quantity{number, unit};
}

// The number in the base unit; nothing when the text has no such form.
std::optional<double> in_base_unit(std::string_view text, std::span<const Unit> units) {
  const std::optional<Quantity> quantity = split_quantity(text);
  if (!quantity) return std::nullopt;
  for (const Unit& unit : units) {
    if (quantity->unit == unit.name) return quantity->number * unit.factor;
  }
  return std::nullopt;
}

Failure invalid(std::string_view what, std::string_view text, std::string_view wanted) {
  return {ErrorKind::kInvalid, str_cat("'", text, "' is no ", what, ": ", wanted)};
}

}  // namespace

Result<double> parse_rate(std::string_view text) {
  if (text == "none") return std::numeric_limits<double>::infinity();
  constexpr std::array<Unit, 4> kUnits{{{"bit", 1}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}}};
  const std::optional<double> rate = in_base_unit(text, kUnits);
  if (!rate || *rate < 1e3 || *rate > 1e12) {
    return invalid("rate", text,
                   "1kbit to 1000gbit (bits per second: kbit, mbit, gbit), or none for no limit");
  }
  return *rate;
}

Result<nanoseconds> parse_duration(std::string_view text) {
  if (text == "0") return nanoseconds(0);
  constexpr std::array<Unit, 5> kUnits{
      {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}}};
  const std::optional<double> duration = in_base_unit(text, kUnits);
  if (!duration || *duration > 3600e9) {
    return invalid("duration", text, "0 to 60m (us, ms, s, m), as in 100ms");
  }
  return nanoseconds(std::llround(*duration));
}

Result<double> parse_share(std::string_view text) {
  constexpr std::array<Unit, 1> kUnits{{{"%", 0.01}}};
  if (text == "0") return 0.0;
  const std::optional<double> share = in_base_unit(text, kUnits);
  if (!share || *share > 1) return invalid("share", text, "0% to 100%, as in 0.5%");
  return *share;
}

Result<QueueLimit> parse_queue(std::string_view text) {
  constexpr std::array<Unit, 7> kBytes{{{"b", 1},
                                        {"kb", 1e3},
                                        {"mb", 1e6},
                                        {"gb", 1e9},
                                        {"kib", 1024},
                                        {"mib", 1048576},
                                        {"gib", 1073741824}}};
  constexpr std::array<Unit, 3> kPackets{{{"packets", 1}, {"packet", 1}, {"p", 1}}};
  const std::optional<double> bytes = in_base_unit(text, kBytes);
  const std::optional<double> packets = in_base_unit(text, kPackets);
  const double count = bytes.value_or(packets.value_or(0));
  if (count < 1 || count > 16e9) {
    return invalid("queue", text, "bytes (256KiB, 1MB, 3000B) or packets (100packets), 1 to 16GB");
  }
  return QueueLimit{bytes ? QueueLimit::Unit::kBytes : QueueLimit::Unit::kPackets,
                    static_cast<uint64_t>(count)};
}

std::string format_rate(double bits_per_second) {
  if (std::isinf(bits_per_second)) return "no limit";
  constexpr std::array<Unit, 3> kUnits{{{" Gbit/s", 1e9}, {" Mbit/s", 1e6}, {" kbit/s", 1e3}}};
  for (const Unit& unit : kUnits) {
    if (bits_per_second >= unit.factor) return str_cat(bits_per_second / unit.factor, unit.name);
  }
  return str_cat(bits_per_second, " bit/s");
}

}  // namespace longhaul::linkem

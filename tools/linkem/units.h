// The values of linkem's flags as people write them: "25mbit", "100ms", "0.5%", "256KiB". Each
// parser returns kInvalid with the range and an example when it cannot read the text.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "longhaul/base/result.h"

namespace longhaul::linkem {

using std::chrono::nanoseconds;

// Bits per second, decimal units: "800kbit", "25mbit", "1.5gbit", or "none" for no limit (returned
// as infinity). 1 kbit to 1000 gbit.
Result<double> parse_rate(std::string_view text);

// "100us", "20ms", "1.5s", "2m"; "0" needs no unit. Up to an hour.
Result<nanoseconds> parse_duration(std::string_view text);

// "0.5%" as 0.005. The percent sign is asked for, so that nobody loses half of all packets by
// writing 0.5.
Result<double> parse_share(std::string_view text);

// How much a queue holds: in bytes ("256KiB", "1MB", "3000B") or in packets ("100packets").
struct QueueLimit {
  enum class Unit { kBytes, kPackets };
  Unit unit = Unit::kBytes;
  uint64_t count = 0;
  bool operator==(const QueueLimit&) const = default;
};
Result<QueueLimit> parse_queue(std::string_view text);

// "25 Mbit/s", "no limit".
std::string format_rate(double bits_per_second);

}  // namespace longhaul::linkem

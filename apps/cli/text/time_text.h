// Times as people type and read them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "longhaul/base/clock.h"

namespace longhaul::cli {

// "90" (seconds), "90s", "1.5m", "2h", "7d", "250ms"; nullopt for anything else.
std::optional<milliseconds> parse_duration(const std::string& text);

// A time in the past: a duration before `now_unix_ms`, "@1763733000" (seconds of Unix time),
// "2026-11-21", "2026-11-21 14:05", "2026-11-21T14:05:30", in UTC with a "Z" behind it, else local;
// "14:05" is today's. nullopt for anything else.
std::optional<uint64_t> parse_since(const std::string& text, int64_t now_unix_ms);

// "2026-11-21 14:05:30", local.
std::string format_time(uint64_t unix_ms);

}  // namespace longhaul::cli

// Logging for operators: who, which generation and step, what was decided and why. spdlog does the
// work and stays hidden in log.cc, because torch ships its own fmt that clashes with it.
//
//   log(LogLevel::kInfo, "master", "job ", id, " placed on ", workers, ": 4 of 4 slots free");
//
// Lines go to stderr as "2026-01-31T12:00:00.000Z I master  message". Thread safe.
#pragma once

#include <string>
#include <string_view>

#include "longhaul/base/strings.h"

namespace longhaul {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

// Lines below `level` are dropped. The start value comes from LONGHAUL_LOG
// (debug|info|warning|error|off), else kWarning: a library is quiet; daemons set kInfo.
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);

// Parses the names above; false for anything else.
bool parse_log_level(std::string_view text, LogLevel* level);

void write_log_line(LogLevel level, std::string_view who, std::string_view message);

template <typename... Args>
void log(LogLevel level, std::string_view who, const Args&... args) {
  if (log_enabled(level)) write_log_line(level, who, str_cat(args...));
}

}  // namespace longhaul

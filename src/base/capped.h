// Texts that others wrote, kept to a size: what a rank, a worker or a user says is shown to
// everybody and kept for long, so nobody may say megabytes.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace longhaul {

// At most `max_bytes` of `text` (from 64 on): where that is less than all, its beginning up to a
// character's end (UTF-8) and " [... 123456 bytes left out]". What is short enough stays as it is,
// whatever its bytes.
std::string capped(std::string text, size_t max_bytes);

// At most `max_lines` of the last ones, each capped.
std::vector<std::string> capped(std::vector<std::string> lines, size_t max_lines, size_t max_bytes);

// The numbers, for everything that is said of a rank or a task: applied where it is heard first (by
// the worker's agent) and again by the master, which trusts no worker. docs/control-plane.md lists
// them.
namespace limits {

constexpr size_t kSentence = 4096;  // a fault's message, why something could not be started
constexpr size_t kWord = 256;       // names of codecs, operations, hosts, versions
constexpr size_t kLine = 4096;      // of output that is quoted
constexpr size_t kLines = 64;       // quoted together: last lines, frames

}  // namespace limits

}  // namespace longhaul

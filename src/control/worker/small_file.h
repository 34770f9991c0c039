// Small files that are read after a crash: there is the old text or the new one, never a part.
// (Of this process. When the host goes down everything that such a file speaks of goes with it, so
// nothing is forced to the disk.)
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "longhaul/base/result.h"

namespace longhaul {

// Errors: kUnavailable.
Result<void> write_small_file(const std::string& path, std::string_view text);

// nullopt: there is none, or it cannot be read.
std::optional<std::string> read_small_file(const std::string& path);

}  // namespace longhaul

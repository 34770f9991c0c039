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

// What is no larger than that is read whole; what is larger is not read at all.
constexpr size_t kSmallFileBytes = size_t{64} << 20;

// Waits for nobody, whatever lies there: a pipe, a device, or a link is not read. nullopt: there is
// none. Errors: kExhausted (it cannot be read now), kUnavailable (it cannot be read), kCorrupt (it
// is no file, or is too large).
Result<std::optional<std::string>> read_small_file(const std::string& path,
                                                   size_t max_bytes = kSmallFileBytes);

}  // namespace longhaul

// Results and other bytes of users as zstd frames.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "longhaul/base/result.h"

namespace longhaul {

// Fast: a result is written once and read once.
std::string compress(std::string_view bytes);

// Errors: kCorrupt. Not more than `size` bytes are ever allocated.
Result<std::string> decompress(std::string_view frame, uint64_t size);

}  // namespace longhaul

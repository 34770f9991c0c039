// What every coder says of bytes that no encoder made.
#pragma once

#include "longhaul/base/error.h"
#include "longhaul/base/strings.h"

namespace longhaul {

// A kCorrupt failure; `what` is put together to one text.
template <typename... Args>
Failure corrupt(const Args&... what) {
  return {ErrorKind::kCorrupt, str_cat(what...)};
}

}  // namespace longhaul

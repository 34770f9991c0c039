// The worker's end of a rank's stdin: bytes wait in a file of the rank's folder, a ring, until the
// rank's shim has put them into the pipe that the rank reads (apps/shim/input.h). What has been
// given is in the folder: a worker that comes after this one goes on there, and no byte comes
// twice.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <string_view>

#include "control/worker/process/process_folder.h"
#include "longhaul/base/result.h"

namespace longhaul {

class InputRing {
 public:
  // `folder` outlives this.
  explicit InputRing(const ProcessFolder& folder) : folder_(folder) {}

  // Before the shim starts. Errors: kUnavailable (no space left), kExhausted (too many open files).
  Result<void> create() const;

  // Gives the rank `data`, which begins at byte `offset` of all its stdin, as far as it is new and
  // there is room; `end`: nothing comes after it. What begins behind given() is not taken, for
  // there would be a gap. Errors: as create(), nothing has been given then.
  Result<void> give(uint64_t offset, std::string_view data, bool end) const;

  uint64_t given() const { return folder_.ledger().input.given; }
  // Nothing is taken any more: its end has been given, or nobody reads it.
  bool closed() const { return folder_.ledger().input.ended || folder_.ledger().input.closed; }

 private:
  const ProcessFolder& folder_;
};

}  // namespace longhaul

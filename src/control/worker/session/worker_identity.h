// Whom the worker of a state folder is taken for by its master: kept in the folder, so that one
// that is started again goes on as the same. It holds for one boot of the host, where the pids in
// the folder mean something, and for one folder: the worker in a copy would be taken for the one in
// the original, and would lay hands on its ranks.
#pragma once

#include <string>

#include "longhaul/base/result.h"

namespace longhaul {

struct WorkerIdentity {
  std::string incarnation;
  std::string boot;    // of the host, and of its process ids
  std::string folder;  // absolute; empty: written by an older version

  bool operator==(const WorkerIdentity&) const = default;
};

std::string identity_file(const std::string& folder);

// What the worker that was last in `folder` was: an empty incarnation when there was none, or when
// it was in another boot. Errors: kInvalid (the folder is a copy of another one that is there too),
// kExhausted and others (it cannot be read).
Result<WorkerIdentity> find_identity(const std::string& folder);

// The one that the next worker finds. Errors: kUnavailable.
Result<void> keep_identity(const std::string& folder, const std::string& incarnation);

}  // namespace longhaul

// The tables of a master's database and how older ones become newer. `PRAGMA user_version` counts
// the migrations that have run; each is one transaction.
#pragma once

#include <cstdint>

#include "control/database/sqlite.h"

namespace longhaul {

int schema_version();

// Brings the database to the version of this program (tests: to an older one). Errors: kInvalid (it
// is from a newer program, or not ours; it is left untouched), kUnavailable (the disk).
Result<void> migrate(Database& database, int to = schema_version());

// Of a database that is ours; 0: it is empty. Errors: kInvalid (it is not, or of a newer program),
// kUnavailable.
Result<int64_t> version_of_ours(Database& database);

// A task of a job, as the key of its rows. Jobs are numbered far below 2^31.
constexpr int64_t place_of(uint64_t job, uint64_t task) {
  return static_cast<int64_t>(job << 32 | task);
}

}  // namespace longhaul

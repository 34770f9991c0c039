// The tables of a master's database and how older ones become newer. `PRAGMA user_version` counts
// the versions that have been reached; each is one transaction.
#pragma once

#include <cstdint>

#include "control/database/engine/sqlite.h"

namespace longhaul {

int schema_version();

// Brings the database to the version of this program (tests: to an older one). Errors: kInvalid (it
// is from a newer program, or not ours; it is left untouched), kUnavailable (the disk).
Result<void> migrate(Sqlite& database, int to = schema_version());

// Of a database that is ours; 0: it is empty. Errors: kInvalid (it is not, or of a newer program),
// kUnavailable.
Result<int64_t> version_of_ours(Sqlite& database);

}  // namespace longhaul

// The tables of a master's database and how older ones become newer. `PRAGMA user_version` counts
// the migrations that have run; each is one transaction.
#pragma once

#include "control/ledger/sqlite.h"

namespace longhaul {

// Brings the database to the version of this program. Errors: kInvalid (it is from a newer program,
// or not ours; it is left untouched), kUnavailable (the disk).
Result<void> migrate(Database& database);

int schema_version();

}  // namespace longhaul

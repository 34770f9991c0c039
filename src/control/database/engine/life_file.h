// Which life of a state folder this is. A life ends when the state is wiped or put back from a
// copy: what was handed out after the copy was made would be handed out again, job numbers,
// generations and epochs alike. So each life has a random identity, which every launch, lease,
// commit and piece of output carries, and what comes of another life is refused.
//
// A copy of a database looks like its original from inside. So a file beside it, FOLDER/life, has a
// random seal that each start of a master changes in both, and tells which file the database was. A
// database without that file, with another seal, or in another file, begins a new life:
//
//   a copy that `longhaul-master backup` made (it has no life), wherever it is put
//   master.db alone put back (cp, sqlite3's .backup): its seal is an older one
//   the whole folder put back by cp, tar, rsync or mv of a copy: master.db is another file
//
// A folder whose disk as a whole was rolled back (a snapshot of a volume or a virtual machine), or
// whose files were overwritten in place by copies of the same moment, cannot be told from one that
// was never touched: whoever does that calls `longhaul-master new-life` before the start.
//
// Thread safety: none; the database's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "longhaul/base/result.h"

namespace longhaul {

// What the file says.
struct LifeFile {
  uint64_t life = 0;
  std::vector<uint64_t> seals;  // one; two while a start changes it
  uint64_t inode = 0;           // of master.db
  uint64_t born_ns = 0;         // likewise, since 1970; 0: its file system does not tell
};

// What the database says, and which file it is.
struct DatabaseLife {
  uint64_t life = 0;  // 0: it has none
  uint64_t seal = 0;
  uint64_t inode = 0;
  uint64_t born_ns = 0;
};

// nullopt: the life goes on. Else why it does not, for people.
std::optional<std::string> why_new_life(const DatabaseLife& database,
                                        const std::optional<LifeFile>& file);

// nullopt: there is none. Errors: kUnavailable (it cannot be read now), kCorrupt.
Result<std::optional<LifeFile>> read_life_file(const std::string& folder);
// On disk when it returns. Errors: kExhausted (the disk is full), kUnavailable.
Result<void> write_life_file(const std::string& folder, const LifeFile& file);
// Without it the next start begins a new life. Errors: kUnavailable.
Result<void> remove_life_file(const std::string& folder);

// Fills in which file this is. Errors: kUnavailable.
Result<void> identify(const std::string& path, DatabaseLife* database);

// Never 0.
uint64_t random_life();

}  // namespace longhaul

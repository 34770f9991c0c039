// Puts a state back from a copy. However that is done, a state that was put back must not be taken
// for the one that was there before (life_file.h).
//
// Thread safety: none. No master may run on the folder; that is checked.
#pragma once

#include <string>

#include "longhaul/base/result.h"

namespace longhaul {

// `backup`, and BACKUP.results, into `state_folder`, which is made if it is not there. A state that
// is there is moved into a folder of its own inside it; its output logs and results stay where they
// are. Returns that folder, or "". Errors: kInvalid (a master runs there, or the copy is no
// database of ours), kUnavailable, kExhausted.
Result<std::string> restore_state(const std::string& backup, const std::string& state_folder);

// The next master that is started on this folder begins a new life. Errors: kInvalid, kUnavailable.
Result<void> begin_new_life(const std::string& state_folder);

}  // namespace longhaul

// Where a master's database lies, and who may use it.
#pragma once

#include <string>

#include "base/unique_fd.h"
#include "longhaul/base/result.h"

namespace longhaul {

// FOLDER/master.db
std::string database_path(const std::string& folder);

// For this process alone, as long as the descriptor lives; the folder is made, for this user only.
// Errors: kInvalid (another master holds it), kUnavailable.
Result<UniqueFd> lock_state_folder(const std::string& folder);

// The jobs of which files lie in the folder, whether the database knows them or not: the highest of
// their numbers, which are not to be given again. Errors: kUnavailable.
Result<uint64_t> highest_job_in_files(const std::string& folder);

}  // namespace longhaul

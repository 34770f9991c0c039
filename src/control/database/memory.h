// What a database held, as what a cluster remembers.
#pragma once

#include <string>
#include <vector>

#include "control/database/database.h"

namespace longhaul {

// All of it but for what cannot be read: a job of which some row is damaged comes as one that has
// failed, or is to fail (JobRecord::damage), whatever else is left out, and `unreadable` names all
// of it. `shift` is added to moments (control/database/clock_mark.h).
ClusterMemory remember(const DatabaseContents& contents, milliseconds shift,
                       std::vector<std::string>* unreadable);

}  // namespace longhaul

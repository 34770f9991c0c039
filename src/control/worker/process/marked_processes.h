// Processes found by what they carry in their environment: a rank's token, which all that the rank
// started has inherited. Finds what a killed shim left behind.
#pragma once

#include <sys/types.h>

#include <string>

namespace longhaul {

// -1 when there is no such process.
int open_pidfd(pid_t pid);

// Kills every process whose environment holds `mark` ("NAME=value"), until none is found.
void kill_marked_processes(const std::string& mark);

}  // namespace longhaul

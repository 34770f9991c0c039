// Whether a job's program can be started on this host, looked up as a shell would: before ranks are
// spawned anywhere, so that a missing program is one clear line and not a dozen dead ranks.
#pragma once

#include <map>
#include <string>

#include "longhaul/base/result.h"

namespace longhaul {

// The absolute path of `command`: as it is, relative to `directory` when it holds a slash, else
// from `path` (PATH's form; relative and empty entries count from `directory`). `directory` empty:
// this process's own. Errors: kUnavailable (not there) and kInvalid (there, but no program), naming
// what was looked for and where; never the worker.
Result<std::string> find_program(const std::string& command, const std::string& directory,
                                 const std::string& path);

// As of sysexits.h (EX_TEMPFAIL).
constexpr int kNoRoomCode = 75;

// What a shell exits with then: 127, or 126 for what is there but cannot be executed. 75 when it
// was not started for want of room (kExhausted).
int cannot_start_code(const Failure& failure);

}  // namespace longhaul

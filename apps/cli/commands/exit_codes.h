// What `longhaul` exits with. A job's own code passes through; these are ours (sysexits.h and
// shells).
#pragma once

namespace longhaul::cli {

constexpr int kExitDamaged = 65;            // EX_DATAERR: some of what was asked for is damaged
constexpr int kExitMasterUnreachable = 69;  // EX_UNAVAILABLE
constexpr int kExitInternal = 70;           // EX_SOFTWARE
constexpr int kExitCannotCreate = 73;       // EX_CANTCREAT: output cannot be written
constexpr int kExitTryLater = 75;           // EX_TEMPFAIL: no room for a job, or on a disk
constexpr int kExitDenied = 77;             // EX_NOPERM
// 64 (kExitUsage, apps/common/flags.h): wrong usage, no such job.
// 128 + signal: `longhaul run` was told to stop by that signal and stopped its job.

}  // namespace longhaul::cli

// What longhaul-worker and longhaul-shim say to each other. The worker starts one shim per rank:
//
//   longhaul-shim PROGRAM DIRECTORY ARGV...     (DIRECTORY may be empty: stay)
//
// with the rank's environment, its stdout and stderr as descriptors 1 and 2, and a SOCK_SEQPACKET
// socket as descriptor 3. Worker to shim: one ShimCommand byte a packet. Shim to worker: one
// ShimReport a packet; the last one is kEnded or kNotStarted. Both ends come from the same build,
// so the structs travel as they lie in memory. When the worker's end closes, the shim kills
// everything and ends.
#pragma once

#include <cstdint>

namespace longhaul {

constexpr int kShimControlFd = 3;

enum class ShimCommand : char {
  kTerminate = 'T',  // SIGTERM to the rank's process group
  kKill = 'K',       // SIGKILL to every descendant
};

enum class ShimReportKind : int32_t { kStarted = 1, kNotStarted = 2, kEnded = 3 };

// What the shim was doing when `error_number` came.
enum class ShimStep : int32_t { kNone = 0, kFork = 1, kChangeDirectory = 2, kExecute = 3 };

struct ShimReport {
  ShimReportKind kind = ShimReportKind::kStarted;
  ShimStep step = ShimStep::kNone;  // kNotStarted
  int32_t error_number = 0;         // kNotStarted
  int32_t pid = 0;                  // of the rank
  int32_t wait_status = 0;          // kEnded: as waitpid() gives it
  // kEnded: a command came while the rank was still alive.
  bool stopped_by_command = false;
  // The rank's state in /proc when the first command came ('T': stopped); 0: no command came.
  char process_state = 0;
};

}  // namespace longhaul

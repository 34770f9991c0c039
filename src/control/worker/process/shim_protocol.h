// What longhaul-worker and longhaul-shim say to each other. The worker starts one shim per rank:
//
//   longhaul-shim ADOPT_TIMEOUT_MS SPOOL_BYTES PROGRAM DIRECTORY ARGV...
//
// (DIRECTORY may be empty: stay) with the rank's environment, a SOCK_SEQPACKET socket as descriptor
// 3 and the rank's folder as descriptor 4. In that folder lie the ledger (process_ledger.h), the
// spooled output (spool_writer.h) and, while the shim lives, a listening SOCK_SEQPACKET socket for
// a worker that comes after the one that started it.
//
// Worker to shim: one ShimCommand byte a packet. Shim to worker: packets of one byte that say:
// look, there is something new in the folder. All that matters is in the folder.
//
// When the worker's end closes, the rank runs on for ADOPT_TIMEOUT_MS (0: no longer) and is killed
// unless another worker has connected by then.
#pragma once

namespace longhaul {

constexpr int kShimControlFd = 3;
constexpr int kShimFolderFd = 4;
constexpr const char* kShimSocketName = "control";

enum class ShimCommand : char {
  kTerminate = 'T',  // SIGTERM to the rank's process group
  kKill = 'K',       // SIGKILL to every descendant
  kInput = 'I',      // there is more of the rank's stdin, or its end
};

constexpr char kShimLook = 'L';

}  // namespace longhaul

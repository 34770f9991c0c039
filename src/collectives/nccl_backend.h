// NCCL for CUDA tensors, where it was built (LONGHAUL_NCCL). Forwarded unwrapped: NCCL's works and
// futures carry CUDA events and streams, and an operation that fails does so on the device, long
// after the call; a wrapper that waited for it would stop the overlap it exists for. Its deadline
// is CommunicatorOptions::timeout, kept by NCCL's own watchdog, which ends the process (torch's
// TORCH_NCCL_ASYNC_ERROR_HANDLING); the PeerMonitor's verdict is in the log by then.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "longhaul/collectives/communicator.h"

namespace longhaul {

// Errors: Error(kInvalid) when this build has no NCCL.
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    const CommunicatorOptions& options);

}  // namespace longhaul

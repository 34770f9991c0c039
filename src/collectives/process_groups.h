// Builds the c10d::ProcessGroup of a communicator: Gloo for CPU tensors, NCCL for CUDA tensors, and
// for a world of one the SelfBackend for both.
#pragma once

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <memory>
#include <string>

#include "collectives/operation_watch.h"

namespace longhaul {

// The address of this host that the others can reach: GLOO_SOCKET_IFNAME's, options.host_address,
// the one towards options.rendezvous_address, else loopback. Errors: kInvalid (no such interface).
Result<std::string> host_address_of(const CommunicatorOptions& options);

// options.backend, LONGHAUL_BACKEND or "gloo". Errors: kInvalid (none that is known).
Result<std::string> backend_of(const CommunicatorOptions& options);

// `store` is for this group alone (a PrefixStore). Blocks until all ranks are connected.
// Errors: CollectiveError.
c10::intrusive_ptr<c10d::ProcessGroup> make_process_group(
    const c10::intrusive_ptr<c10d::Store>& store, const std::string& host_address,
    const std::shared_ptr<OperationWatch>& watch);

}  // namespace longhaul

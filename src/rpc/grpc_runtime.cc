#include "rpc/grpc_runtime.h"

#include <absl/synchronization/mutex.h>

namespace longhaul {

void set_up_grpc() {
  // gRPC's locks are Abseil's, and Debian builds Abseil with its search for lock cycles switched
  // on: each lock of each message then takes part in a graph behind one global lock. It is a tool
  // for gRPC's developers.
  static const bool once = [] {
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
    return true;
  }();
  static_cast<void>(once);
}

}  // namespace longhaul

#include "cluster/arrays/task.h"

namespace longhaul {

std::string_view to_string(TaskState state) {
  switch (state) {
    case TaskState::kWaiting:
      return "waiting";
    case TaskState::kBackingOff:
      return "backing off";
    case TaskState::kLeased:
      return "leased";
    case TaskState::kDone:
      return "done";
    case TaskState::kQuarantined:
      return "quarantined";
    case TaskState::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

}  // namespace longhaul

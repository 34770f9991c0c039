#include "cluster/event.h"

namespace longhaul {

std::string_view to_string(EventKind kind) {
  switch (kind) {
    case EventKind::kOther:
      return "other";
    case EventKind::kMasterStarted:
      return "master started";
    case EventKind::kJobSubmitted:
      return "job submitted";
    case EventKind::kJobPlaced:
      return "job placed";
    case EventKind::kJobStarted:
      return "job started";
    case EventKind::kJobStopping:
      return "job stopping";
    case EventKind::kJobFailedAttempt:
      return "attempt failed";
    case EventKind::kJobRestarted:
      return "job restarted";
    case EventKind::kJobEnded:
      return "job ended";
    case EventKind::kWorkerRegistered:
      return "worker registered";
    case EventKind::kWorkerUnreachable:
      return "worker unreachable";
    case EventKind::kWorkerReturned:
      return "worker returned";
    case EventKind::kWorkerLost:
      return "worker lost";
    case EventKind::kWorkerDrained:
      return "worker drained";
    case EventKind::kWorkerUndrained:
      return "worker undrained";
    case EventKind::kWorkerForgotten:
      return "worker forgotten";
  }
  return "unknown";
}

}  // namespace longhaul

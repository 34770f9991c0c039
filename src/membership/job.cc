#include "longhaul/membership/job.h"

namespace longhaul {

std::string_view to_string(JobState state) {
  switch (state) {
    case JobState::kPending:
      return "pending";
    case JobState::kStarting:
      return "starting";
    case JobState::kRunning:
      return "running";
    case JobState::kStopping:
      return "stopping";
    case JobState::kSucceeded:
      return "succeeded";
    case JobState::kFailed:
      return "failed";
    case JobState::kStopped:
      return "stopped";
  }
  return "unknown";
}

std::string_view to_string(FailureClass failure_class) {
  switch (failure_class) {
    case FailureClass::kExitCode:
      return "exit code";
    case FailureClass::kSignal:
      return "signal";
    case FailureClass::kException:
      return "exception";
    case FailureClass::kLaunch:
      return "launch";
    case FailureClass::kJoinTimeout:
      return "join timeout";
    case FailureClass::kEarlyExit:
      return "early exit";
    case FailureClass::kHang:
      return "hang";
    case FailureClass::kWorkerLost:
      return "worker lost";
    case FailureClass::kNoRoom:
      return "no room";
    case FailureClass::kTimeLimit:
      return "time limit";
    case FailureClass::kTasks:
      return "tasks";
  }
  return "unknown";
}

}  // namespace longhaul

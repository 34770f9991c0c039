#include "longhaul/control/job.h"

namespace longhaul {

std::string_view to_string(JobState state) {
  switch (state) {
    case JobState::kUnknown:
      return "unknown";
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

std::string_view to_string(RankState state) {
  switch (state) {
    case RankState::kUnknown:
      return "unknown";
    case RankState::kAssigned:
      return "assigned";
    case RankState::kSpawned:
      return "spawned";
    case RankState::kJoined:
      return "joined";
    case RankState::kLeft:
      return "left";
    case RankState::kExited:
      return "exited";
    case RankState::kLost:
      return "lost";
  }
  return "unknown";
}

std::string_view to_string(FailureClass failure_class) {
  switch (failure_class) {
    case FailureClass::kUnknown:
      return "unknown";
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
  }
  return "unknown";
}

std::string_view to_string(NodeState state) {
  switch (state) {
    case NodeState::kUnknown:
      return "unknown";
    case NodeState::kReady:
      return "ready";
    case NodeState::kUnreachable:
      return "unreachable";
    case NodeState::kLost:
      return "lost";
  }
  return "unknown";
}

bool has_ended(JobState state) {
  return state == JobState::kSucceeded || state == JobState::kFailed || state == JobState::kStopped;
}

}  // namespace longhaul

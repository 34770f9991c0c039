#include "cluster/jobs/job.h"

namespace longhaul {
namespace {

int JobStatus::* counter_of(FaultKind kind) {
  switch (kind) {
    case FaultKind::kOutOfMemory:
      return &JobStatus::oom_restarts;
    case FaultKind::kNode:
      return &JobStatus::node_restarts;
    case FaultKind::kPreemption:
      return &JobStatus::preemptions;
    default:
      return &JobStatus::restarts;
  }
}

}  // namespace

std::string StopOrigin::text() const {
  std::string who = user.empty() ? "a user" : user;
  if (!host.empty()) who += " on " + host;
  return command.empty() ? who : who + " (" + command + ")";
}

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
    case FailureClass::kOutOfMemory:
      return "out of memory";
    case FailureClass::kKilled:
      return "kill -9";
    case FailureClass::kStateDamaged:
      return "state damaged";
    case FailureClass::kPreempted:
      return "preempted";
  }
  return "unknown";
}

FaultKind fault_kind(FailureClass failure_class) {
  switch (failure_class) {
    case FailureClass::kWorkerLost:
      return FaultKind::kNode;
    case FailureClass::kOutOfMemory:
      return FaultKind::kOutOfMemory;
    case FailureClass::kPreempted:
      return FaultKind::kPreemption;
    // What nobody else can be blamed for counts against the program.
    default:
      return FaultKind::kApplication;
  }
}

int JobSpec::max_restarts_after(FaultKind kind) const {
  switch (kind) {
    case FaultKind::kApplication:
      return max_restarts;
    case FaultKind::kOutOfMemory:
      return max_oom_restarts;
    case FaultKind::kNode:
      return max_node_restarts;
    case FaultKind::kPreemption:
      return max_preemptions;
  }
  return 0;
}

int JobStatus::restarts_after(FaultKind kind) const {
  return this->*counter_of(kind);
}

void JobStatus::count_restart(FaultKind kind) {
  ++(this->*counter_of(kind));
}

}  // namespace longhaul

#include "cluster/jobs/job_table.h"

#include <array>

namespace longhaul {
namespace {

using enum JobState;

constexpr std::array kTable = {
    JobTransition{kPending, JobEvent::kPlaced, kStarting, JobAction::kPrepare},
    JobTransition{kPending, JobEvent::kNoRoom, kFailed, JobAction::kEnd},
    // Its time limit has run out between two attempts, or its rows cannot be read.
    JobTransition{kPending, JobEvent::kFailed, kFailed, JobAction::kEnd},
    JobTransition{kPending, JobEvent::kStopRequested, kStopped, JobAction::kEnd},
    JobTransition{kPending, JobEvent::kTasksGranted, kRunning, JobAction::kNone},
    JobTransition{kStarting, JobEvent::kAllPrepared, kRunning, JobAction::kLaunch},
    JobTransition{kStarting, JobEvent::kFailed, kStopping, JobAction::kStopRanks},
    JobTransition{kStarting, JobEvent::kStopRequested, kStopping, JobAction::kStopRanks},
    JobTransition{kRunning, JobEvent::kAllSucceeded, kSucceeded, JobAction::kEnd},
    JobTransition{kRunning, JobEvent::kFailed, kStopping, JobAction::kStopRanks},
    JobTransition{kRunning, JobEvent::kStopRequested, kStopping, JobAction::kStopRanks},
    // A second request, perhaps with less patience.
    JobTransition{kStopping, JobEvent::kStopRequested, kStopping, JobAction::kStopRanks},
    JobTransition{kStopping, JobEvent::kAllGone, kFailed, JobAction::kEndByVerdict},
    JobTransition{kStopping, JobEvent::kRestart, kPending, JobAction::kFormAgain},
};

}  // namespace

std::span<const JobTransition> job_table() {
  return kTable;
}

std::optional<JobTransition> job_step(JobState from, JobEvent event) {
  for (const JobTransition& row : kTable) {
    if (row.from == from && row.event == event) return row;
  }
  return std::nullopt;
}

}  // namespace longhaul

// The life of a job as a table of (from, event, to, action). An event that the table does not have
// for a state is ignored, and job_step() says so: late events, such as a second verdict, do no
// harm.
#pragma once

#include <optional>
#include <span>

#include "cluster/jobs/job.h"

namespace longhaul {

enum class JobEvent {
  kPlaced,         // every rank has a slot
  kNoRoom,         // too few free slots, and the job asked not to wait
  kTasksGranted,   // the first tasks of an array have been given to a worker
  kAllPrepared,    // every worker can start the program
  kAllSucceeded,   // every rank exited 0 by itself, or every task is done
  kFailed,         // there is a verdict
  kStopRequested,  // by a user, or because the master ends
  kAllGone,        // every rank of a stopping job is accounted for
  kRestart,        // the same, and the gang may be formed again
};

// What follows from a transition, beyond the new state.
enum class JobAction {
  kNone,
  kPrepare,       // ask the chosen workers
  kLaunch,        // spawn the ranks
  kStopRanks,     // on every worker that holds some
  kEnd,           // give the slots back
  kEndByVerdict,  // failed when there is a verdict, else stopped
  kFormAgain,     // give the slots back and wait for new ones, as the next generation
};

struct JobTransition {
  JobState from;
  JobEvent event;
  JobState to;
  JobAction action;
};

std::span<const JobTransition> job_table();

// The row for (from, event), or nullopt: nothing happens. For kAllGone `to` is kFailed; the caller
// that has no verdict ends in kStopped (action kEndByVerdict).
std::optional<JobTransition> job_step(JobState from, JobEvent event);

}  // namespace longhaul

// Why a job waits, starts again, stops or is over: a reason always, and what would help. A pure
// function of what is known; it stands on the reason that placement gave and adds what a person
// asks next: what each node could take, and who comes before.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cluster/jobs/job_record.h"
#include "cluster/scheduling/resources.h"

namespace longhaul {

// A worker that is not LOST.
struct NodeFacts {
  WorkerId id;
  bool ready = false;
  bool drained = false;
  Resources total;
  Resources free;
};

// A job that comes before the one that is explained: it holds slots, or its turn is earlier.
struct JobAhead {
  JobId id;
  std::string name;
  JobState state = JobState::kPending;
  int slots_held = 0;
};

struct ExplainFacts {
  JobStatus job;
  std::vector<NodeFacts> nodes;
  std::vector<JobAhead> ahead;                  // in the order of submission
  std::optional<milliseconds> starts_again_in;  // it backs off after a failed attempt
  std::vector<WorkerId> unprepared;             // asked whether they can start it, no answer yet
  std::optional<milliseconds> acts_in;  // starting: it fails; stopping: SIGKILL, or ranks are lost
  bool killed = false;                  // stopping: SIGKILL was sent
  milliseconds quiet{0};                // nothing has moved for so long, if it hangs
};

struct ExplainedNode {
  WorkerId id;
  int slots = 0;
  int free = 0;
  std::string verdict;  // what it could take now, or why nothing
};

struct Explanation {
  JobId job;
  JobState state = JobState::kPending;
  std::string reason;                // never empty
  std::vector<std::string> details;  // the stack of a rank that keeps the others waiting
  std::vector<std::string> help;     // what would help, or where to look; most useful first
  std::vector<ExplainedNode> nodes;  // while it waits
  std::vector<JobAhead> ahead;       // while it waits
  // Those that were left out of the two.
  size_t more_nodes = 0;
  size_t more_ahead = 0;
};

Explanation explain(const ExplainFacts& facts);

}  // namespace longhaul

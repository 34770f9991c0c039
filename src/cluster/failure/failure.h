// Who failed first? When one rank of a gang dies the others die of it within milliseconds, and
// their messages reach the master in any order; Gloo even blames a live neighbour. So causes are
// ranked by class of evidence, not by clocks:
//
//   1. what only a culprit shows: an exception of its own, a program that cannot be started, a
//      signal that we did not send (SIGABRT and SIGTERM apart), memory that ran out, a missing
//      library, a worker whose lease ran out, an exit before joining;
//   2. what an unlucky victim without our library shows too: a nonzero exit code, an exception in
//      its last lines, SIGABRT. Believed after a short look round for something of class 1;
//   3. victims: a rank that says its peer is lost or late. They point at others. Believed when all
//      have spoken, or all but one that is late, else after a longer wait; and not as long as a
//      silent worker's lease may still decide.
//
// Within a class the first one that the master saw counts. Pure functions; a test is a table.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cluster/jobs/job.h"

namespace longhaul {

// A worker that holds ranks of the job, as far as its silence goes.
struct WorkerEvidence {
  WorkerId id;
  std::string host;
  bool lost = false;  // its lease has run out, or it restarted
  std::string why;    // "silent for 5.0s"
  uint64_t lost_order = 0;
  std::optional<Instant> lease_ends;  // it is silent now; set unless heard within a heartbeat or so
  bool preempted = false;             // it was told to stop: no fault of its host's
};

struct FailureOptions {
  milliseconds look_round{300};  // class 2: time for a better reason to show up
  milliseconds settle{2000};     // class 3, and a fault whose process has not ended yet
  milliseconds all_spoke{800};   // class 3, when there is hardly anybody left to say better
  milliseconds join_timeout{300'000};
};

struct Verdict {
  FailureClass failure_class = FailureClass::kExitCode;
  std::optional<Rank> rank;  // absent: the worker itself
  WorkerId worker;
  std::string message;  // one sentence
  // Drawn from victims alone. Stopping the ranks may show which one was stuck: refine_verdict().
  bool tentative = false;
  int exit_code = 0;  // of the job, where no rank has one
};

// Neither verdict nor wait_until: nothing has failed.
struct FailureDecision {
  std::optional<Verdict> verdict;
  std::optional<Instant> wait_until;  // ask again then, or when something new is seen
};

// `ranks` are all ranks of the job in rank order, `workers` all that hold some of them.
FailureDecision decide_culprit(std::span<const RankRecord> ranks,
                               std::span<const WorkerEvidence> workers, Instant now,
                               const FailureOptions& options);

// A tentative verdict again, once all ranks have been stopped and their process states are known.
Verdict refine_verdict(const Verdict& verdict, std::span<const RankRecord> ranks);

// The report to keep with the job: the culprit's last words, the evidence in the order it was seen,
// and everybody who fell because of it.
FailureReport make_report(const Verdict& verdict, std::span<const RankRecord> ranks,
                          std::span<const WorkerEvidence> workers);

// What the job exits with: the culprit's own code where it has one, 128 + signal, 126 or 127 when
// it could not be started, else 1.
int job_exit_code(const FailureReport& report);

// A rank without our library cannot report that it is a victim, but the exception it died of may
// show it. Returns the fault that it would have reported; nullopt: nothing shows that.
std::optional<RankFault> fault_of_victim(const RankExit& exit);

// It died of others, by its own account.
bool is_victim(const RankRecord& rank);

// "SIGKILL", or "signal 42".
std::string signal_name(int signal);

}  // namespace longhaul

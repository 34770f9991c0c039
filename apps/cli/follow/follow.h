// Watches one job to its end and shows it: the loop that `run`, `logs` and `wait` share.
#pragma once

#include <string>
#include <vector>

#include "apps/cli/follow/line_filter.h"
#include "apps/cli/follow/lost_master.h"
#include "apps/cli/follow/screen.h"
#include "apps/cli/follow/signals.h"
#include "control/client/job_client.h"

namespace longhaul::cli {

struct FollowOptions {
  WatchOptions watch;
  bool progress = false;        // the live line, or plain lines from time to time
  bool stop_on_signal = false;  // a signal stops the job; else it only ends the watching
  // With stop_on_signal: after a first Ctrl-C the job is left to run on, unless a second one within
  // 3 s stops it. A terminal that was closed (SIGHUP) always leaves it alone.
  bool detach_first = false;
  std::string command;     // "longhaul run": who it was that stopped a job
  bool has_master = true;  // false: standalone, nobody can be asked about the job afterwards
  std::optional<LinePattern> grep;  // only lines of the output that match
  std::optional<size_t> tail;       // of what the master has, only the last lines
};

struct Followed {
  int exit_code = 0;      // what the process should exit with
  bool complete = false;  // everything that was asked for has been seen: no signal, no lost master
  JobStatus last_status;  // the last one seen; its job_id is empty when there was none
};

// `master`: the client's.
Followed follow(JobClient& client, const MasterFlags& master, const std::string& job,
                const FollowOptions& options, const SignalCounter& signals, Screen& screen);

// What a process that ran `job` exits with, once it has ended.
int exit_code_of(const JobStatus& job);

// Prints the failure with "longhaul: " in front and returns the code that fits it.
int report_failure(const Failure& failure, Screen& screen);

}  // namespace longhaul::cli

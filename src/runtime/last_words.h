// What a rank says before it dies of an exception: to its worker, so that culprits are told from
// victims, and to stderr.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <string>

#include "longhaul/agent/coordinator.h"
#include "longhaul/collectives/communicator.h"

namespace longhaul {

// The fault that an exception stands for. `what` is cut to its first line: c10's carry a backtrace.
// Models that differ are the fault of the rank that differs; the others point at it.
RankFault fault_of(const std::exception_ptr& exception, Rank self);

// "longhaul::CollectiveError: all-reduce of bucket 3 ...".
std::string describe_exception(const std::exception_ptr& exception);

// Who speaks, and to whom.
struct Speaker {
  Rank rank = 0;
  std::shared_ptr<Coordinator> coordinator;  // may be null
  std::shared_ptr<Communicator> communicator;
  std::atomic<bool> has_spoken = false;
};

// Tells the coordinator once: the first fault is the one that counts. Waits no longer than 2 s;
// only for a process about to end, for the call may be left behind.
void report_fault_briefly(Speaker& speaker, const RankFault& fault);

// From now on until the speaker is gone, an exception that nobody catches is reported by it.
// Installs the std::terminate handler the first time. A process may only have one such handler, so
// this one piece of state is global; of several speakers the latest one speaks.
void speak_at_terminate(const std::shared_ptr<Speaker>& speaker);

}  // namespace longhaul

// What happened in a cluster, as an operator would tell it: the master's journal is a list of
// these. Most are told by ClusterState as effects; who keeps them adds number and time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "longhaul/agent/ids.h"

namespace longhaul {

enum class EventKind {
  kOther,  // one that this version does not know, of a newer master
  kMasterStarted,
  kJobSubmitted,
  kJobPlaced,          // every rank has a slot, and where
  kJobStarted,         // its ranks, or its first tasks, were sent to workers
  kJobStopping,        // its ranks are being stopped, and why as far as it is known
  kJobFailedAttempt,   // an attempt is over: whose fault it was
  kJobRestarted,       // the gang is formed again as the next generation
  kJobEnded,           // succeeded, failed or stopped
  kWorkerRegistered,   // a worker that was not here, or a new one in the place of an old one
  kWorkerUnreachable,  // silent, or its stream broke
  kWorkerReturned,     // heard again with all that it runs
  kWorkerLost,
  kWorkerDrained,  // an operator wants no new work on it
  kWorkerUndrained,
  kWorkerForgotten,  // one that was lost: by an operator, or because that was long ago
};
// "master started", "job submitted", ...
std::string_view to_string(EventKind kind);

struct ClusterEvent {
  EventKind kind = EventKind::kOther;
  JobId job;                  // empty: not about a job
  WorkerId worker;            // the worker it is about, or the culprit's
  Generation generation = 0;  // of the job
  std::optional<Rank> rank;   // the culprit
  std::string text;           // one sentence

  uint64_t number = 0;  // from 1 on, without gaps
  uint64_t unix_ms = 0;
};

}  // namespace longhaul

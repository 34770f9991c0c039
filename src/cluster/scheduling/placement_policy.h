// Who starts now, who waits and for what: one pure function of what a cluster looks like. The
// master calls it whenever something has changed (ClusterState); a simulator may drive it, and
// another policy take its place.
//
// plan_with_backfill() is EASY backfill (Mu'alem & Feitelson 2001, "Utilization, Predictability,
// Workloads, and User Runtime Estimates in Scheduling the IBM SP2 with Backfilling", IEEE TPDS
// 12(6); there after Lifka 1995):
//
// - Jobs go in order of priority, then of submission. The first gang that does not fit gets a
//   reservation: the earliest moment at which it fits when every job uses all of its time limit,
//   and the room that it takes then.
// - What comes after it starts only where that does not delay it: in room that is left over beside
//   the reserved one, or for a time that is over when the reservation begins.
// - What has no time limit never uses reserved room. Where the reservation depends on the end of
//   such a job it has a place, but no time; then nothing uses that room, however short it is. Of
//   jobs without limit those that started last are expected to end last, so that what is
//   backfilled never moves a reservation away.
// - Tasks of arrays behind the gang are short, but nobody knows how short: they are started beside
//   the reserved room only, and what they hold of it is the gang's as they end, also where that is
//   sooner than the moment promised. An array ahead of the gang goes first, with all of its tasks.
// - A gang that is larger than all workers together waits, and holds up nobody.
//
// So a reservation never moves back, as long as limits are true and no worker is lost; and a gang
// of the highest priority starts at last if what runs ends at last. A stream of jobs of higher
// priority may hold up one of lower priority for ever.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/scheduling/placement.h"
#include "longhaul/base/clock.h"

namespace longhaul {

// What a job has taken on one worker.
struct TakenRoom {
  WorkerId worker;
  Resources amount;
};

struct RunningJob {
  JobId id;
  std::vector<TakenRoom> taken;
  std::optional<Instant> ends;  // at the latest; absent: nobody knows
  bool tasks = false;           // of an array: they end soon, and need not be followed by others
};

// An array that could run more tasks than it does. It is waiting and running at once.
struct WaitingTasks {
  size_t now = 0;     // slots that it could fill at once
  bool more = false;  // and others later
};

struct WaitingJob {
  JobId id;
  uint64_t number = 0;                // in order of submission
  int priority = 0;                   // higher first
  Demand demand;                      // of an array: `each`, for one task
  std::optional<WaitingTasks> tasks;  // absent: a gang
  // If it starts now, it has ended then at the latest.
  std::optional<Instant> ends;
  // A gang between two attempts: not before then. Nobody takes its room meanwhile, if that is soon.
  std::optional<Instant> not_before;
};

struct PlacementInput {
  Instant now;
  std::vector<WorkerRoom> rooms;
  std::vector<RunningJob> running;  // in order of their start
  std::vector<WaitingJob> waiting;
};

struct JobStart {
  JobId id;
  std::vector<RankShare> shares;  // of a gang, in rank order, without GPUs
  // Of an array: so many slots of these workers.
  std::vector<std::pair<WorkerId, int>> slots;
};

struct JobWait {
  JobId id;
  std::string reason;  // why, with numbers
};

// What is kept for the first gang that waits.
struct Reservation {
  JobId id;
  std::optional<Instant> start;  // at the latest; absent: nobody knows
  std::map<WorkerId, Resources> room;
};

struct PlacementPlan {
  std::vector<JobStart> starts;  // in the order in which they were decided
  std::vector<JobWait> waits;
  std::optional<Reservation> reservation;
};

using PlacementPolicy = std::function<PlacementPlan(const PlacementInput&)>;

PlacementPlan plan_with_backfill(const PlacementInput& input);

// So many gangs behind the reserved one are looked at in one plan, which bounds its time; the rest
// just wait.
constexpr int kBackfillDepth = 200;
// A gang that is formed again within this time has its room reserved meanwhile.
constexpr milliseconds kKeepsItsPlace{5'000};

}  // namespace longhaul

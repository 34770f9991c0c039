// The part of ClusterState that asks the placement policy who starts, and knows what of each worker
// is in use.
#include <algorithm>
#include <tuple>

#include "cluster/cluster_state.h"

namespace longhaul {
namespace {

// A plan looks at every worker. Where thousands of tasks end in a second, 50 plans a second are
// enough: refill() gives most slots away without one.
constexpr milliseconds kBetweenPlans{20};

}  // namespace

void ClusterState::schedule(Now now) {
  scheduled_at_ = now.instant;
  site_.plan_at.reset();
  site_.reserved.reset();
  const PlacementInput input = placement_input(now);
  if (input.waiting.empty()) return;
  const PlacementPlan plan = site_.options.policy(input);
  uint64_t expected_start = 0;
  if (plan.reservation) {
    site_.reserved = jobs_.at(plan.reservation->id)->place();
    if (const auto start = plan.reservation->start) {
      const auto left = std::chrono::duration_cast<milliseconds>(*start - now.instant);
      expected_start = now.unix_ms + static_cast<uint64_t>(std::max<int64_t>(0, left.count()));
    }
  }
  for (const JobWait& one : plan.waits) {
    Work& work = *jobs_.at(one.id);
    // An array that runs and could run more is not said to wait.
    if (work.state() != JobState::kPending) continue;
    const bool reserved = plan.reservation && plan.reservation->id == one.id;
    work.wait(one.reason, reserved ? expected_start : 0);
  }
  // In the plan's order, and at once: the plan has counted each start's room as taken for those
  // after it.
  for (const JobStart& one : plan.starts) jobs_.at(one.id)->granted(one, now);
}

// Plans at once, unless the last plan was made a moment ago; then tick() does, when it is time.
void ClusterState::schedule_soon(Now now) {
  if (scheduled_at_ + kBetweenPlans <= now.instant) {
    schedule(now);
  } else {
    site_.plan_at = scheduled_at_ + kBetweenPlans;
  }
}

PlacementInput ClusterState::placement_input(Now now) const {
  PlacementInput input;
  bool whole_jobs = false;
  for (const auto& [place, work] : active_) {
    std::optional<WaitingJob> waiting = work->waiting(now);
    if (!waiting) continue;
    whole_jobs = whole_jobs || !waiting->tasks;
    input.waiting.push_back(std::move(*waiting));
  }
  if (input.waiting.empty()) return input;
  input.now = now.instant;
  input.rooms = rooms();
  if (!whole_jobs) return input;  // only a gang is given a reservation, which needs the rest

  std::vector<const Work*> started;
  started.reserve(active_.size());
  for (const auto& [place, work] : active_) started.push_back(work);
  // The policy expects jobs without a time limit to end in the order in which they started.
  std::ranges::sort(started, {}, [](const Work* work) {
    const JobRecord& job = work->record();
    return std::tuple(!job.started_at, job.started_at.value_or(Instant()), job.number);
  });
  for (const Work* work : started) {
    RunningJob running = work->running(now);
    if (!running.taken.empty()) input.running.push_back(std::move(running));
  }
  return input;
}

// Gives what has become free of one worker to arrays, slot by slot and without a plan. Arrays
// behind a gang that has a reservation get nothing here: only a plan knows which room is not
// reserved.
void ClusterState::refill(const WorkerId& id, Now now) {
  const WorkerRecord* worker = site_.workers.find(id);
  if (worker == nullptr || !worker->takes_work()) return;
  for (const auto& [place, work] : fillers_) {
    if (site_.reserved && place > *site_.reserved) return;
    // An input of its tasks cannot be read at the moment (TaskArray::input_missing()).
    if (work->not_before()) continue;
    const Resources free = free_of(*worker);
    if (free.slots == 0) return;
    const int slots = how_many(free, work->spec().demand().each);
    work->granted({work->id(), {}, {{id, slots}}}, now);
  }
}

// A worker that was lost a short time ago counts: it may be started again.
std::optional<Failure> ClusterState::why_it_never_fits(const JobSpec& spec, Now now) const {
  if (spec.wait_for_nodes) return std::nullopt;
  std::vector<WorkerRoom> known;
  for (const auto& [id, worker] : site_.workers.all()) {
    const bool gone = worker.state == WorkerState::kLost &&
                      worker.lost_at + site_.options.lost_may_return < now.instant;
    if (!gone) known.push_back({id, worker.registration.room(), {}, false});
  }
  // Before the first worker has come nobody can tell.
  if (known.empty() || could_ever_fit(spec.demand(), known)) return std::nullopt;
  return Failure{
      ErrorKind::kInvalid,
      str_cat(longhaul::why_it_never_fits(spec.demand(), spec.array ? "task" : "rank", known),
              " (--wait-for-nodes queues it all the same)")};
}

std::vector<WorkerRoom> ClusterState::rooms() const {
  std::vector<WorkerRoom> rooms;
  for (const auto& [id, worker] : site_.workers.all()) {
    if (worker.state == WorkerState::kLost) continue;
    rooms.push_back(
        {id, worker.registration.room(), free_of(worker), worker.takes_work(), worker.drained});
  }
  return rooms;
}

Resources ClusterState::free_of(const WorkerRecord& worker) const {
  return worker.registration.room() - used_of(worker.id);
}

Resources ClusterState::used_of(const WorkerId& id) const {
  const auto use = site_.use.find(id);
  return use == site_.use.end() ? Resources{} : use->second.used();
}

}  // namespace longhaul

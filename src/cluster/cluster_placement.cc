// The part of ClusterState that asks the placement policy who starts, and knows what of each worker
// is in use.
#include <algorithm>
#include <tuple>

#include "cluster/cluster_state.h"

namespace longhaul {
namespace {

// A plan looks at every worker. Where thousands of tasks end in a second, so many plans do.
constexpr milliseconds kBetweenPlans{20};

// Moments that differ by less are the same to people, and not worth a write.
constexpr uint64_t kSameMomentMs = 2'000;

}  // namespace

void ClusterState::schedule(Now now) {
  scheduled_at_ = now.instant;
  schedule_at_.reset();
  reserved_.reset();
  const PlacementInput input = placement_input(now);
  if (input.waiting.empty()) return;
  const PlacementPlan plan = options_.policy(input);
  uint64_t expected_start = 0;
  if (plan.reservation) {
    reserved_ = jobs_.at(plan.reservation->id).place();
    if (const auto start = plan.reservation->start) {
      const auto left = std::chrono::duration_cast<milliseconds>(*start - now.instant);
      expected_start = now.unix_ms + static_cast<uint64_t>(std::max<int64_t>(0, left.count()));
    }
  }
  for (const JobWait& one : plan.waits) {
    Job& job = jobs_.at(one.id);
    if (job.status.state != JobState::kPending) continue;
    const bool reserved = plan.reservation && plan.reservation->id == one.id;
    wait(job, one.reason, reserved ? expected_start : 0);
  }
  for (const JobStart& one : plan.starts) start(jobs_.at(one.id), one, now);
}

void ClusterState::schedule_soon(Now now) {
  if (scheduled_at_ + kBetweenPlans <= now.instant) {
    schedule(now);
  } else {
    schedule_at_ = scheduled_at_ + kBetweenPlans;
  }
}

PlacementInput ClusterState::placement_input(Now now) const {
  PlacementInput input;
  bool gangs = false;
  for (const auto& [place, id] : active_) {
    std::optional<WaitingJob> job = waiting(jobs_.at(id), now);
    if (!job) continue;
    gangs = gangs || !job->tasks;
    input.waiting.push_back(std::move(*job));
  }
  if (input.waiting.empty()) return input;
  input.now = now.instant;
  input.rooms = rooms();
  if (!gangs) return input;  // nothing is reserved

  std::vector<const Job*> started;
  started.reserve(active_.size());
  for (const auto& [place, id] : active_) started.push_back(&jobs_.at(id));
  std::sort(started.begin(), started.end(), [](const Job* a, const Job* b) {
    const auto order = [](const Job& job) {
      return std::tuple(!job.started_at, job.started_at.value_or(Instant()), job.number);
    };
    return order(*a) < order(*b);
  });
  for (const Job* job : started) {
    if (std::optional<RunningJob> one = running(*job, now))
      input.running.push_back(std::move(*one));
  }
  return input;
}

std::optional<WaitingJob> ClusterState::waiting(const Job& job, Now now) const {
  const JobSpec& spec = job.status.spec;
  const bool pending = job.status.state == JobState::kPending;
  WaitingJob waiting{job.status.id, job.number,   spec.priority,
                     spec.demand(), std::nullopt, ends_at_the_latest(job, now),
                     job.retry_at};
  if (!job.tasks) return pending ? std::optional(std::move(waiting)) : std::nullopt;
  if (!pending && job.status.state != JobState::kRunning) return std::nullopt;
  if (job.retry_at) return std::nullopt;
  const auto batch = static_cast<size_t>(std::max(1, spec.array->batch));
  const TaskCounts counts = job.tasks->counts();
  const size_t all = counts.in(TaskState::kWaiting) + counts.in(TaskState::kBackingOff);
  if (all == 0) return std::nullopt;
  waiting.tasks.emplace();
  waiting.tasks->now = (job.tasks->grantable() + batch - 1) / batch;
  waiting.tasks->more = waiting.tasks->now * batch < all;
  return waiting;
}

std::optional<RunningJob> ClusterState::running(const Job& job, Now now) const {
  RunningJob running{job.status.id, {}, ends_at_the_latest(job, now), job.tasks.has_value()};
  const Resources each = job.status.spec.demand().each;
  if (job.holds_slots) {
    for (const RankShare& share : job.shares) {
      running.taken.push_back({share.worker, each * static_cast<int>(share.ranks.size())});
    }
  }
  std::map<WorkerId, int> batches;
  for (const auto& [id, batch] : job.batches) ++batches[batch.holder.worker];
  for (const auto& [worker, count] : batches) running.taken.push_back({worker, each * count});
  if (running.taken.empty()) return std::nullopt;
  return running;
}

// If it runs, or starts now.
std::optional<Instant> ClusterState::ends_at_the_latest(const Job& job, Now now) const {
  const JobSpec& spec = job.status.spec;
  if (job.status.state == JobState::kStopping && !may_restart(job)) {
    return job.give_up_at ? *job.give_up_at - options_.stop_margin : now.instant;
  }
  if (job.time_is_up) return *job.time_is_up + spec.grace;
  if (spec.time_limit.count() <= 0) return std::nullopt;
  return now.instant + spec.time_limit + spec.grace;
}

void ClusterState::start(Job& job, const JobStart& start, Now now) {
  for (const auto& [worker, slots] : start.slots) {
    grant_tasks(job, *workers_.find(worker), slots, now);
  }
  if (start.shares.empty()) return;
  job.shares = keep_node_ranks(start.shares, job.node_order);
  for (RankShare& share : job.shares) {
    const WorkerRecord& worker = *workers_.find(share.worker);
    const int count = job.status.spec.gpus_per_rank * static_cast<int>(share.ranks.size());
    share.gpus = use_[share.worker].free_gpus(worker.registration.gpus, count);
  }
  job.retry_at.reset();
  job.status.unix_ms_expected_start = 0;
  take_slots(job);
  advance(job, JobEvent::kPlaced, now);
}

void ClusterState::wait(Job& job, const std::string& reason, uint64_t expected_start) {
  uint64_t& told = job.status.unix_ms_expected_start;
  const uint64_t moved = std::max(told, expected_start) - std::min(told, expected_start);
  const bool same_moment = moved < kSameMomentMs && (told == 0) == (expected_start == 0);
  if (job.status.reason == reason && same_moment) return;
  job.status.reason = reason;
  told = expected_start;
  changed(job);
}

// What was lost a moment ago may come back, as a worker that is started again does.
std::optional<Failure> ClusterState::why_it_never_fits(const JobSpec& spec, Now now) const {
  if (spec.wait_for_nodes) return std::nullopt;
  std::vector<WorkerRoom> known;
  for (const auto& [id, worker] : workers_.all()) {
    const bool gone = worker.state == WorkerState::kLost &&
                      worker.lost_at + options_.lost_may_return < now.instant;
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
  for (const auto& [id, worker] : workers_.all()) {
    if (worker.state == WorkerState::kLost) continue;
    rooms.push_back({id, worker.registration.room(), free_of(worker),
                     worker.state == WorkerState::kReady && worker.session && !worker.drained,
                     worker.drained});
  }
  return rooms;
}

Resources ClusterState::free_of(const WorkerRecord& worker) const {
  return worker.registration.room() - used_of(worker.id);
}

Resources ClusterState::used_of(const WorkerId& id) const {
  const auto use = use_.find(id);
  return use == use_.end() ? Resources{} : use->second.used();
}

void ClusterState::take_slots(Job& job) {
  job.holds_slots = true;
  const Resources each = job.status.spec.demand().each;
  for (const RankShare& share : job.shares) {
    job.held_by.insert(share.worker);
    use_[share.worker].take(each * static_cast<int>(share.ranks.size()), share.gpus);
  }
}

void ClusterState::give_slots_back(Job& job) {
  if (!std::exchange(job.holds_slots, false)) return;
  job.held_by.clear();
  const Resources each = job.status.spec.demand().each;
  for (const RankShare& share : job.shares) {
    use_[share.worker].give_back(each * static_cast<int>(share.ranks.size()), share.gpus);
  }
}

}  // namespace longhaul

#include "cluster/scheduling/placement_policy.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

enum class When {
  kSoon,         // tasks that nothing follows
  kKnown,        // a time limit
  kSomeDay,      // without one
  kIfItReturns,  // on a worker that is silent
};

// Room that will become free. `at` is a moment for kKnown; for kSomeDay it is only a place in the
// order in which jobs started.
struct Release {
  When when = When::kKnown;
  Instant at;
  size_t room = 0;
  Resources amount;
  bool tasks = false;  // of an array, whose next tasks may take the room again
};

// Follows rooms as they empty, and tells as soon as a gang fits. Each release takes constant time,
// where find_seats() would look at all rooms again.
class FitWatch {
 public:
  FitWatch(const Demand& demand, std::vector<WorkerRoom> rooms)
      : demand_(demand), rooms_(std::move(rooms)), takes_(rooms_.size(), 0) {
    for (size_t room = 0; room < rooms_.size(); ++room) count(room);
  }

  void release(size_t room, const Resources& amount) {
    rooms_[room].free = both(rooms_[room].free + amount, rooms_[room].total);
    rooms_[room].ready = true;
    count(room);
  }
  bool fits() const {
    return demand_.min_nodes > 0 ? whole_ >= demand_.min_nodes : available_ >= demand_.ranks;
  }
  const std::vector<WorkerRoom>& rooms() const { return rooms_; }

 private:
  void count(size_t room) {
    int takes = rooms_[room].ready ? how_many(rooms_[room].free, demand_.each) : 0;
    if (demand_.max_per_worker > 0) takes = std::min(takes, demand_.max_per_worker);
    const auto whole = [this](int ranks) { return ranks >= demand_.max_per_worker ? 1 : 0; };
    whole_ += whole(takes) - (takes_[room] < 0 ? 0 : whole(takes_[room]));
    available_ += takes - takes_[room];
    takes_[room] = takes;
  }

  const Demand demand_;
  std::vector<WorkerRoom> rooms_;
  std::vector<int> takes_;
  int64_t available_ = 0;
  // Workers with room for max_per_worker. Asked only for elastic gangs, which always have that.
  int whole_ = 0;
};

// Makes one plan. rooms_ has what is free now, less what the plan has given away. Once there is a
// reservation, extra_ has what is not reserved of each room when it begins, and open_ the smaller
// of the two: that is what a job may take that could still run then.
class Backfill {
 public:
  explicit Backfill(const PlacementInput& input)
      : input_(input), rooms_(input.rooms), running_(input.running) {
    for (size_t i = 0; i < rooms_.size(); ++i) index_[rooms_[i].id] = i;
  }

  PlacementPlan plan() {
    std::vector<const WaitingJob*> queue;
    queue.reserve(input_.waiting.size());
    for (const WaitingJob& job : input_.waiting) queue.push_back(&job);
    std::sort(queue.begin(), queue.end(), [](const auto* a, const auto* b) {
      return a->priority != b->priority ? a->priority > b->priority : a->number < b->number;
    });
    for (const WaitingJob* job : queue) {
      if (reserved_ == nullptr) ahead_.insert(job->id);
      if (job->not_before && *job->not_before > input_.now) {
        // A gang between two attempts. Its room is kept for a short wait only; for a longer one,
        // others may use it.
        const bool soon = *job->not_before <= input_.now + kKeepsItsPlace;
        if (soon && reserved_ == nullptr && could_ever_fit(job->demand, rooms_)) reserve(*job);
      } else if (job->tasks) {
        offer(*job);
      } else {
        consider(*job);
      }
    }
    return std::move(plan_);
  }

 private:
  void consider(const WaitingJob& job) {
    if (reserved_ != nullptr && ++looked_at_ > kBackfillDepth) return wait_behind(job);
    const bool spare = must_spare(job);
    const std::vector<Seats> seats = find_seats(job.demand, spare ? open_ : rooms_);
    if (!seats.empty()) return start(job, seats, spare);
    // It waits for workers that are not here, which may take for ever: it gets no reservation, so
    // it holds up nobody.
    if (!could_ever_fit(job.demand, rooms_)) return wait(job, why_it_waits(job.demand, rooms_));
    if (reserved_ != nullptr) return wait_behind(job);
    wait(job, why_it_waits(job.demand, rooms_));
    reserve(job);
  }

  // Whether it has to leave the reserved room alone: it may not be over when the reservation
  // begins, or nobody knows when that is.
  bool must_spare(const WaitingJob& job) const {
    if (reserved_ == nullptr) return false;
    const std::optional<Instant>& begins = plan_.reservation->start;
    return !begins || !job.ends || *job.ends > *begins;
  }

  void start(const WaitingJob& job, const std::vector<Seats>& seats, bool spare) {
    // It counts as running from here on: a reservation that is made later in this plan must know
    // when its room is back.
    RunningJob& running = begin(job);
    for (const Seats& one : seats) take(running, one.room, job.demand.each * one.ranks, spare);
    plan_.starts.push_back({job.id, shares_of(seats, rooms_), {}});
  }

  void offer(const WaitingJob& job) {
    if (!could_ever_fit(job.demand, rooms_)) return wait(job, why_it_waits(job.demand, rooms_));
    const bool spare = reserved_ != nullptr;
    JobStart granted{job.id, {}, {}};
    RunningJob* running = nullptr;
    size_t left = job.tasks->now;
    for (size_t room = 0; room < rooms_.size() && left > 0; ++room) {
      if (!rooms_[room].ready) continue;
      const int fits = how_many((spare ? open_ : rooms_)[room].free, job.demand.each);
      const int count = static_cast<int>(std::min(left, static_cast<size_t>(fits)));
      if (count == 0) continue;
      if (running == nullptr) running = &begin(job);
      take(*running, room, job.demand.each * count, spare);
      granted.slots.emplace_back(rooms_[room].id, count);
      left -= static_cast<size_t>(count);
    }
    if (reserved_ == nullptr && (left > 0 || job.tasks->more)) {
      // Until then this array may take whatever becomes free, also what a gang behind it would
      // count on.
      tasks_ahead_until_ = std::max(tasks_ahead_until_, job.ends.value_or(Instant::max()));
    }
    if (!granted.slots.empty()) {
      plan_.starts.push_back(std::move(granted));
    } else if (reserved_ != nullptr) {
      wait_behind(job);
    } else {
      wait(job, "waits for a free slot" + with(job.demand.each));
    }
  }

  static std::string with(const Resources& each) {
    const std::string more = beyond_slots(each);
    return more.empty() ? "" : " with " + more;
  }

  RunningJob& begin(const WaitingJob& job) {
    return running_.emplace_back(RunningJob{job.id, {}, job.ends, job.tasks.has_value()});
  }

  void take(RunningJob& job, size_t room, const Resources& amount, bool spare) {
    job.taken.push_back({rooms_[room].id, amount});
    rooms_[room].free = rooms_[room].free - amount;
    if (reserved_ == nullptr) return;
    // A job that will be over when the reservation begins has given its room back by then, so only
    // what is free now becomes less.
    if (spare) extra_[room] = extra_[room] - amount;
    open_[room].free = both(rooms_[room].free, extra_[room]);
  }

  void wait(const WaitingJob& job, std::string reason) {
    plan_.waits.push_back({job.id, std::move(reason)});
  }
  // Without numbers: they would change with each plan, and each change of the reason is a write and
  // a message.
  void wait_behind(const WaitingJob& job) {
    wait(job,
         str_cat("waits behind ", reserved_->id, ", which ", what_it_needs(reserved_->demand)));
  }

  std::vector<Release> releases(bool tasks_yield) const {
    std::vector<Release> releases;
    int64_t order = 0;
    for (const RunningJob& job : running_) {
      ++order;
      // Tasks of an array behind the gang get no successors in its room. An array ahead of it keeps
      // its slots until it has run all of its tasks.
      const bool yields = tasks_yield && job.tasks && !ahead_.contains(job.id);
      Release release;
      if (yields) {
        release.when = When::kSoon;
      } else if (job.ends) {
        // One that is overdue ends any moment.
        release.at = std::max(*job.ends, input_.now);
      } else {
        release.when = When::kSomeDay;
        release.at = Instant(Instant::duration(order));
      }
      release.tasks = job.tasks;
      for (const TakenRoom& taken : job.taken) {
        const auto room = index_.find(taken.worker);
        if (room == index_.end()) continue;
        release.room = room->second;
        release.amount = taken.amount;
        releases.push_back(release);
        // Whatever ends there, nobody can be started on that worker before it is back.
        if (!rooms_[room->second].ready) releases.back().when = When::kIfItReturns;
      }
    }
    for (size_t room = 0; room < rooms_.size(); ++room) {
      if (!rooms_[room].ready) releases.push_back({When::kIfItReturns, {}, room, {}, false});
    }
    std::stable_sort(releases.begin(), releases.end(), [](const Release& a, const Release& b) {
      return a.when != b.when ? a.when < b.when : a.at < b.at;
    });
    return releases;
  }

  struct Shadow {
    std::optional<Instant> at;  // absent: it hangs on what nobody knows
    std::vector<Seats> seats;
    std::vector<Resources> left;  // of all but what tasks give up: others would follow them there
  };

  // The first moment from `earliest` on at which the gang fits, if nothing else is started. Lets
  // room become free in the order of releases(); as soon as one without a known moment is needed
  // the answer is a place without a time.
  Shadow shadow(const Demand& demand, Instant earliest, bool tasks_yield) const {
    FitWatch watch(demand, rooms_);
    std::optional<Instant> at = earliest;
    std::vector<Resources> left;
    left.reserve(rooms_.size());
    for (const WorkerRoom& room : rooms_) left.push_back(room.free);
    for (const Release& release : releases(tasks_yield)) {
      const bool by_then = release.when == When::kKnown && release.at <= earliest;
      // All that is surely free by `earliest` counts, even where the gang would fit without it: it
      // does not start before then.
      if (!by_then && watch.fits()) break;
      watch.release(release.room, release.amount);
      if (!release.tasks) left[release.room] = left[release.room] + release.amount;
      if (release.when != When::kKnown) {
        at.reset();
      } else if (at) {
        at = std::max(*at, release.at);
      }
    }
    return {at, find_seats(demand, watch.rooms()), std::move(left)};
  }

  void reserve(const WaitingJob& job) {
    Demand least = job.demand;
    // An elastic gang starts as soon as there is room for its least size, so that is what is
    // reserved.
    if (least.min_nodes > 0) least.ranks = least.min_nodes * least.max_per_worker;
    const Instant earliest = std::max(input_.now, job.not_before.value_or(input_.now));
    Shadow sure = shadow(least, earliest, /*tasks_yield=*/false);
    const bool overtaken = tasks_ahead_until_ > sure.at.value_or(Instant::min());
    // An array ahead of the gang may go on to start tasks in the room that was counted on.
    if (overtaken) sure.at.reset();
    reserved_ = &job;
    Reservation& reservation = plan_.reservation.emplace();
    reservation.id = job.id;
    reservation.start = sure.at;
    // From here on others get what is left in both: of what is free now, and of what is not
    // reserved when the reservation begins.
    for (const WorkerRoom& room : rooms_) extra_.push_back(room.total);
    spare(least, sure);
    // It may start sooner, when tasks of arrays behind it end. So the seats that it would have then
    // are kept free as well, else others would follow those tasks there.
    const bool tasks_behind =
        std::any_of(running_.begin(), running_.end(),
                    [this](const auto& one) { return one.tasks && !ahead_.contains(one.id); });
    if (tasks_behind) spare(least, shadow(least, earliest, /*tasks_yield=*/true));
    open_ = rooms_;
    for (size_t room = 0; room < rooms_.size(); ++room) {
      open_[room].free = both(rooms_[room].free, extra_[room]);
    }
  }

  // What is left beside the gang's seats is all that others may have then.
  void spare(const Demand& demand, const Shadow& shadow) {
    for (size_t room = 0; room < rooms_.size(); ++room) {
      extra_[room] = both(extra_[room], shadow.left[room]);
    }
    for (const Seats& one : shadow.seats) {
      const Resources seats = demand.each * one.ranks;
      extra_[one.room] = both(extra_[one.room], shadow.left[one.room] - seats);
      Resources& reserved = plan_.reservation->room[rooms_[one.room].id];
      if (reserved.slots < seats.slots) reserved = seats;
    }
  }

  const PlacementInput& input_;
  std::vector<WorkerRoom> rooms_;    // with what is free by now
  std::vector<RunningJob> running_;  // and what this plan has started
  std::unordered_map<WorkerId, size_t> index_;
  std::set<JobId> ahead_;  // of the reserved job, itself included
  const WaitingJob* reserved_ = nullptr;
  std::vector<Resources> extra_;                // not reserved, when the reservation begins
  std::vector<WorkerRoom> open_;                // with what is free now and then
  Instant tasks_ahead_until_ = Instant::min();  // arrays ahead of it may start tasks until then
  int looked_at_ = 0;
  PlacementPlan plan_;
};

}  // namespace

PlacementPlan plan_with_backfill(const PlacementInput& input) {
  return Backfill(input).plan();
}

}  // namespace longhaul

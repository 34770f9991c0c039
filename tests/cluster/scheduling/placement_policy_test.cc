// The policy by example, and in simulated clusters: thousands of random jobs come, run for at most
// as long as they said, and go.
#include "cluster/scheduling/placement_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;

Instant at(int64_t seconds) {
  return Instant(milliseconds(seconds * 1000));
}

WorkerRoom room(const WorkerId& id, Resources total, Resources free, bool ready = true) {
  return {id, total, free, ready};
}

class PlacementPolicyTest : public ::testing::Test {
 protected:
  PlacementPolicyTest() { input_.now = at(1000); }

  void runs(const JobId& id, const WorkerId& worker, int slots, std::optional<Instant> ends,
            bool tasks = false) {
    input_.running.push_back({id, {{worker, {slots, 0, 0}}}, ends, tasks});
  }
  WaitingJob& waits(const JobId& id, int ranks, std::optional<Instant> ends = std::nullopt) {
    WaitingJob job;
    job.id = id;
    job.number = ++number_;
    job.demand.ranks = ranks;
    job.ends = ends;
    return input_.waiting.emplace_back(job);
  }
  WaitingJob& tasks_wait(const JobId& id, size_t now, bool more) {
    WaitingJob& job = waits(id, 1);
    job.tasks = WaitingTasks{now, more};
    return job;
  }
  void plan() { plan_ = plan_with_backfill(input_); }
  std::vector<JobId> started() const {
    std::vector<JobId> ids;
    ids.reserve(plan_.starts.size());
    for (const JobStart& one : plan_.starts) ids.push_back(one.id);
    return ids;
  }
  std::string reason(const JobId& id) const {
    for (const JobWait& one : plan_.waits) {
      if (one.id == id) return one.reason;
    }
    return "";
  }

  PlacementInput input_;
  PlacementPlan plan_;
  uint64_t number_ = 0;
};

TEST_F(PlacementPolicyTest, ShortJobsGoAheadWhereTheyAreOverInTime) {
  input_.rooms = {room("a", {4, 0, 0}, {2, 0, 0})};
  runs("long", "a", 2, at(1100));
  waits("large", 4);
  waits("in-time", 1, at(1100));
  waits("too-long", 1, at(1101));
  waits("endless", 1);
  plan();
  EXPECT_THAT(started(), ElementsAre("in-time"));
  ASSERT_TRUE(plan_.reservation);
  EXPECT_EQ(plan_.reservation->id, "large");
  EXPECT_EQ(plan_.reservation->start, at(1100));
  EXPECT_EQ(plan_.reservation->room.at("a").slots, 4);
  EXPECT_EQ(reason("large"), "needs 4 slots; 1 worker is ready with 2 free of 4: a 2");
  EXPECT_EQ(reason("too-long"), "waits behind large, which needs 4 slots");
}

TEST_F(PlacementPolicyTest, AnyJobGoesWhereNothingIsReserved) {
  input_.rooms = {room("a", {2, 0, 0}, {0, 0, 0}), room("b", {4, 0, 0}, {1, 0, 0})};
  runs("first", "a", 2, at(1100));
  runs("second", "b", 3, at(2000));
  waits("gang", 3);  // a whole, and the one slot of b
  waits("endless", 1);
  plan();
  EXPECT_THAT(started(), IsEmpty());
  EXPECT_EQ(plan_.reservation->start, at(1100));

  input_.rooms[1] = room("b", {5, 0, 0}, {2, 0, 0});
  plan();
  EXPECT_THAT(started(), ElementsAre("endless"));
  EXPECT_EQ(plan_.reservation->start, at(1100));
}

TEST_F(PlacementPolicyTest, NothingShortIsShortEnoughWhereNobodyKnowsTheTime) {
  input_.rooms = {room("a", {4, 0, 0}, {2, 0, 0}), room("b", {2, 0, 0}, {1, 0, 0})};
  runs("endless", "a", 2, std::nullopt);
  runs("later", "b", 1, std::nullopt);
  waits("large", 4);
  waits("short", 1, at(1001));
  plan();
  EXPECT_EQ(plan_.reservation->start, std::nullopt);
  // It is to have all of a; b is nobody's.
  EXPECT_THAT(started(), ElementsAre("short"));
  EXPECT_EQ(plan_.starts[0].shares[0].worker, "b");
}

TEST_F(PlacementPolicyTest, TasksBehindAGangGiveItsRoomUp) {
  input_.rooms = {room("a", {4, 0, 0}, {1, 0, 0})};
  runs("tasks", "a", 3, std::nullopt, /*tasks=*/true);
  waits("gang", 4);
  tasks_wait("tasks", 1, true);
  plan();
  EXPECT_THAT(started(), IsEmpty());
  input_.rooms.push_back(room("b", {1, 0, 0}, {1, 0, 0}));
  plan();
  ASSERT_THAT(started(), ElementsAre("tasks"));
  EXPECT_THAT(plan_.starts[0].slots, ElementsAre(std::pair<WorkerId, int>{"b", 1}));
}

TEST_F(PlacementPolicyTest, TasksAheadGoFirst) {
  input_.rooms = {room("a", {4, 0, 0}, {1, 0, 0})};
  runs("tasks", "a", 3, std::nullopt, /*tasks=*/true);
  tasks_wait("tasks", 5, true);
  waits("gang", 2);
  waits("short", 1, at(1001));
  plan();
  EXPECT_THAT(started(), ElementsAre("tasks"));
  EXPECT_EQ(plan_.reservation->start, std::nullopt);
}

TEST_F(PlacementPolicyTest, HigherPrioritiesFirstThenInOrderOfSubmission) {
  input_.rooms = {room("a", {2, 0, 0}, {2, 0, 0})};
  waits("j1", 1);
  waits("j2", 1);
  waits("j3", 1).priority = 5;
  waits("j4", 1).priority = -1;
  plan();
  EXPECT_THAT(started(), ElementsAre("j3", "j1"));
  EXPECT_EQ(plan_.reservation->id, "j2");
  EXPECT_THAT(reason("j4"), StartsWith("waits behind j2, which needs 1 slot"));
}

TEST_F(PlacementPolicyTest, ATooLargeGangHoldsUpNobody) {
  input_.rooms = {room("a", {2, 0, 0}, {2, 0, 0})};
  waits("large", 3);
  waits("small", 2);
  plan();
  EXPECT_THAT(started(), ElementsAre("small"));
  EXPECT_FALSE(plan_.reservation);
  EXPECT_EQ(reason("large"),
            "needs 3 slots; 1 worker is ready with 2 free of 2: a 2; it is larger than all workers "
            "together");
}

TEST_F(PlacementPolicyTest, ASilentWorkerHoldsNothingUpButWhatNeedsIt) {
  input_.rooms = {room("a", {2, 0, 0}, {2, 0, 0}), room("b", {2, 0, 0}, {2, 0, 0}, false)};
  waits("both", 3);
  waits("one", 1);
  plan();
  EXPECT_THAT(started(), IsEmpty()) << "both needs a, and one of b's slots";
  EXPECT_EQ(plan_.reservation->start, std::nullopt);
  input_.rooms.push_back(room("c", {1, 0, 0}, {1, 0, 0}));
  plan();
  EXPECT_THAT(started(), ElementsAre("both"));
}

TEST_F(PlacementPolicyTest, AGangBetweenTwoAttemptsKeepsItsPlace) {
  input_.rooms = {room("a", {4, 0, 0}, {4, 0, 0})};
  waits("again", 4).not_before = at(1001);
  waits("endless", 1);
  waits("blink", 1, at(1001));
  plan();
  EXPECT_THAT(started(), ElementsAre("blink"));
  EXPECT_EQ(plan_.reservation->start, at(1001));
  input_.waiting[0].not_before = at(1030);
  plan();
  EXPECT_THAT(started(), ElementsAre("endless", "blink")) << "not that long";
}

TEST_F(PlacementPolicyTest, GpusAndMemoryAreReservedToo) {
  input_.rooms = {room("a", {8, 2, 100}, {8, 1, 100})};
  input_.running.push_back({"one", {{"a", {0, 1, 0}}}, at(1100), false});
  waits("two-gpus", 2).demand.each = {1, 1, 40};
  waits("gpu", 1).demand.each = {1, 1, 0};
  waits("much", 1).demand.each = {1, 0, 30};
  waits("little", 6).demand.each = {1, 0, 1};
  plan();
  EXPECT_THAT(started(), ElementsAre("little"));
  EXPECT_EQ(plan_.reservation->start, at(1100));
}

// --- Simulated clusters -------------------------------------------------------------------------

struct SimulatedJob {
  WaitingJob spec;
  Instant submitted;
  milliseconds limit{0};  // 0: none
  milliseconds lasts{0};  // in truth
  std::optional<Instant> started;
  std::optional<Instant> ended;
  std::optional<Instant> promised;  // the first reservation with a time
  std::vector<TakenRoom> taken;
};

struct Simulation {
  std::mt19937 random;
  std::vector<WorkerRoom> rooms;
  std::vector<SimulatedJob> jobs;
  std::vector<size_t> order;  // of starts
  bool priorities = false;
  size_t backfilled = 0;
  size_t promises = 0;

  int pick(int below) { return static_cast<int>(random() % static_cast<uint32_t>(below)); }

  Simulation(uint32_t seed, int count) : random(seed), priorities(seed % 2 == 1) {
    const int workers = 1 + pick(8);
    for (int i = 0; i < workers; ++i) {
      const Resources total{1 + pick(8), pick(5), static_cast<uint64_t>(pick(64))};
      rooms.push_back({str_cat("w", i), total, total, true});
    }
    Instant now = at(0);
    while (static_cast<int>(jobs.size()) < count) {
      now += milliseconds(pick(4) == 0 ? pick(60'000) : pick(2'000));
      submit(now);
    }
  }

  void submit(Instant now) {
    SimulatedJob job;
    job.submitted = now;
    job.spec.id = str_cat("j", jobs.size());
    job.spec.number = jobs.size();
    job.spec.priority = priorities ? pick(3) : 0;
    Demand& demand = job.spec.demand;
    demand.ranks = 1 + pick(pick(4) == 0 ? 24 : 4);
    demand.each = {1, pick(3) == 0 ? 1 + pick(2) : 0,
                   static_cast<uint64_t>(pick(3) == 0 ? pick(16) : 0)};
    demand.style = pick(2) == 0 ? PlacementStyle::kPack : PlacementStyle::kSpread;
    if (pick(4) == 0) demand.max_per_worker = 1 + pick(3);
    if (pick(6) == 0) {
      demand.max_per_worker = 1 + pick(2);
      demand.ranks = demand.max_per_worker * (1 + pick(4));
      demand.min_nodes = 1;
    }
    job.lasts = milliseconds(1 + pick(pick(5) == 0 ? 100'000 : 8'000));
    if (pick(4) != 0) job.limit = job.lasts + milliseconds(pick(3) == 0 ? 0 : pick(20'000));
    if (could_ever_fit(demand, rooms)) jobs.push_back(job);
  }

  PlacementInput input(Instant now) const {
    PlacementInput input{now, rooms, {}, {}};
    for (const size_t i : order) {
      const SimulatedJob& job = jobs[i];
      if (job.ended) continue;
      std::optional<Instant> ends;
      if (job.limit.count() > 0) ends = *job.started + job.limit;
      input.running.push_back({job.spec.id, job.taken, ends, false});
    }
    for (const SimulatedJob& job : jobs) {
      if (job.submitted > now || job.started) continue;
      input.waiting.push_back(job.spec);
      if (job.limit.count() > 0) input.waiting.back().ends = now + job.limit;
    }
    return input;
  }

  size_t index_of(const JobId& id) const { return std::stoul(id.substr(1)); }
  WorkerRoom& room_of(const WorkerId& id) { return rooms[std::stoul(id.substr(1))]; }

  void start(const JobStart& start, Instant now) {
    SimulatedJob& job = jobs[index_of(start.id)];
    ASSERT_FALSE(job.started) << start.id;
    job.started = now;
    order.push_back(index_of(start.id));
    int ranks = 0;
    for (const RankShare& share : start.shares) {
      const auto count = static_cast<int>(share.ranks.size());
      ranks += count;
      const Resources amount = job.spec.demand.each * count;
      WorkerRoom& room = room_of(share.worker);
      ASSERT_GE(how_many(room.free, job.spec.demand.each), count) << "over-committed";
      const int most = job.spec.demand.max_per_worker;
      ASSERT_TRUE(most == 0 || count <= most) << start.id;
      room.free = room.free - amount;
      job.taken.push_back({share.worker, amount});
    }
    ASSERT_TRUE(job.spec.demand.min_nodes > 0 || ranks == job.spec.demand.ranks) << start.id;
    if (job.promised) {
      EXPECT_LE(now, *job.promised) << start.id << " starts later than it was promised";
    }
  }

  // Nobody who starts, and is not the first in the queue, may have taken the first one's room.
  void plan(Instant now) {
    const PlacementInput before = input(now);
    if (before.waiting.empty()) return;
    const PlacementPlan plan = plan_with_backfill(before);
    ASSERT_EQ(plan.starts.size() + plan.waits.size(), before.waiting.size());
    const auto first = std::min_element(
        before.waiting.begin(), before.waiting.end(), [](const auto& a, const auto& b) {
          return a.priority != b.priority ? a.priority > b.priority : a.number < b.number;
        });
    const bool fits = !find_seats(first->demand, before.rooms).empty();
    if (fits) {
      ASSERT_EQ(plan.starts.front().id, first->id) << "the first in the queue was passed over";
    } else {
      ASSERT_TRUE(plan.reservation);
      ASSERT_EQ(plan.reservation->id, first->id);
    }
    for (const JobStart& one : plan.starts) {
      if (plan.reservation) {
        const WaitingJob& held = jobs[index_of(plan.reservation->id)].spec;
        const WaitingJob& goes = jobs[index_of(one.id)].spec;
        backfilled += held.priority > goes.priority ||
                              (held.priority == goes.priority && held.number < goes.number)
                          ? 1
                          : 0;
      }
      start(one, now);
    }
    // Later jobs of a higher priority may take its place.
    if (plan.reservation && plan.reservation->start && !priorities) {
      SimulatedJob& job = jobs[index_of(plan.reservation->id)];
      if (!job.promised) ++promises;
      if (job.promised) {
        EXPECT_LE(*plan.reservation->start, *job.promised) << job.spec.id << " moved back";
      }
      job.promised = plan.reservation->start;
    }
  }

  void run() {
    Instant now = at(0);
    for (;;) {
      std::optional<Instant> next;
      const auto consider = [&](Instant moment) {
        if (moment > now && (!next || moment < *next)) next = moment;
      };
      for (const SimulatedJob& job : jobs) {
        if (!job.started) consider(job.submitted);
        if (job.started && !job.ended) consider(*job.started + job.lasts);
      }
      if (!next) break;
      now = *next;
      for (SimulatedJob& job : jobs) {
        if (!job.started || job.ended || *job.started + job.lasts > now) continue;
        job.ended = now;
        for (const TakenRoom& taken : job.taken) {
          WorkerRoom& room = room_of(taken.worker);
          room.free = room.free + taken.amount;
        }
      }
      plan(now);
      if (::testing::Test::HasFailure()) return;
    }
    for (const SimulatedJob& job : jobs) {
      EXPECT_TRUE(job.ended) << job.spec.id << " starved";
    }
    for (const WorkerRoom& room : rooms) EXPECT_EQ(room.free, room.total);
  }
};

TEST(PlacementPolicy, NoPromiseIsBrokenAndNobodyStarvesInSimulatedClusters) {
  size_t backfilled = 0;
  size_t promises = 0;
  for (uint32_t seed = 0; seed < 60 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Simulation simulation(seed, 120);
    simulation.run();
    backfilled += simulation.backfilled;
    promises += simulation.promises;
  }
  EXPECT_GT(backfilled, 500U);
  EXPECT_GT(promises, 300U);
}

}  // namespace
}  // namespace longhaul

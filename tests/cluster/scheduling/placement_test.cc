#include "cluster/scheduling/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kGb = 1'000'000'000;

// A worker of slots alone.
struct Slots {
  WorkerId id;
  int total = 0;
  int free = 0;
  bool ready = true;
};

std::vector<WorkerRoom> rooms_of(const std::vector<Slots>& workers) {
  std::vector<WorkerRoom> rooms;
  rooms.reserve(workers.size());
  for (const Slots& one : workers) {
    rooms.push_back({one.id, {one.total, 0, 0}, {one.free, 0, 0}, one.ready});
  }
  return rooms;
}

struct Placed {
  std::vector<RankShare> shares;
  std::string reason;
  bool impossible = false;
};

Placed place(const Demand& demand, const std::vector<WorkerRoom>& rooms) {
  return {shares_of(find_seats(demand, rooms), rooms), why_it_waits(demand, rooms),
          !could_ever_fit(demand, rooms)};
}

Placed place_gang(int ranks, int max_per_worker, const std::vector<Slots>& workers) {
  return place({.ranks = ranks, .max_per_worker = max_per_worker}, rooms_of(workers));
}

Placed place_nodes(int min_nodes, int max_nodes, int ranks_per_node,
                   const std::vector<Slots>& workers) {
  return place({.ranks = max_nodes * ranks_per_node,
                .max_per_worker = ranks_per_node,
                .min_nodes = min_nodes},
               rooms_of(workers));
}

TEST(Placement, OneWorkerThatFitsMostTightlyTakesAll) {
  const auto decision =
      place_gang(2, 0, {{"big", 8, 8, true}, {"small", 2, 2, true}, {"mid", 4, 3, true}});
  EXPECT_THAT(decision.shares, ElementsAre(RankShare{"small", {0, 1}, {}}));
}

TEST(Placement, EmptiestWorkersFirstWhenNoneIsLargeEnough) {
  const auto decision = place_gang(7, 0, {{"a", 4, 1, true}, {"b", 4, 4, true}, {"c", 4, 3, true}});
  EXPECT_THAT(decision.shares,
              ElementsAre(RankShare{"b", {0, 1, 2, 3}, {}}, RankShare{"c", {4, 5, 6}, {}}));
}

TEST(Placement, SpreadsWhenAskedTo) {
  const auto decision = place_gang(3, 1, {{"a", 4, 4, true}, {"b", 4, 4, true}, {"c", 1, 1, true}});
  EXPECT_THAT(decision.shares, ElementsAre(RankShare{"a", {0}, {}}, RankShare{"b", {1}, {}},
                                           RankShare{"c", {2}, {}}));
}

TEST(Placement, AllOrNoneAndTheReasonHasTheNumbers) {
  const auto decision = place_gang(4, 0, {{"gpu-b", 2, 2, true}, {"gpu-a", 2, 1, true}});
  EXPECT_THAT(decision.shares, IsEmpty());
  EXPECT_FALSE(decision.impossible);
  EXPECT_EQ(decision.reason,
            "needs 4 slots; 2 workers are ready with 3 free of 4: gpu-a 1, gpu-b 2");
}

TEST(Placement, AnUnreachableWorkerTakesNothingButMayComeBack) {
  const auto decision = place_gang(2, 0, {{"a", 1, 1, true}, {"b", 4, 4, false}});
  EXPECT_THAT(decision.shares, IsEmpty());
  EXPECT_FALSE(decision.impossible);
  EXPECT_EQ(decision.reason,
            "needs 2 slots; 1 worker is ready with 1 free of 1: a 1; 1 worker unreachable");
}

TEST(Placement, SaysWhenNoWaitingHelps) {
  EXPECT_TRUE(place_gang(9, 0, {{"a", 4, 4, true}, {"b", 4, 4, true}}).impossible);
  EXPECT_TRUE(place_gang(3, 1, {{"a", 4, 4, true}, {"b", 4, 4, true}}).impossible);
  const auto nobody = place_gang(1, 0, {});
  EXPECT_TRUE(nobody.impossible);
  EXPECT_EQ(nobody.reason, "needs 1 slot; no worker is ready");
}

TEST(Placement, NeverTakesMoreThanThereIsWhateverTheOrderOfWorkers) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::vector<Slots> rooms;
    const int workers = static_cast<int>(random() % 6);
    for (int i = 0; i < workers; ++i) {
      const int slots = 1 + static_cast<int>(random() % 8);
      rooms.push_back({"w" + std::to_string(i), slots, static_cast<int>(random() % (slots + 1)),
                       random() % 4 != 0});
    }
    const int ranks = 1 + static_cast<int>(random() % 12);
    const int most = static_cast<int>(random() % 4);
    const auto decision = place_gang(ranks, most, rooms);
    auto shuffled = rooms;
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    EXPECT_EQ(place_gang(ranks, most, shuffled).shares, decision.shares);
    int available = 0;
    for (const Slots& room : rooms) {
      if (room.ready) available += most > 0 ? std::min(room.free, most) : room.free;
    }
    EXPECT_EQ(decision.shares.empty(), available < ranks);
    Rank next = 0;
    for (const RankShare& share : decision.shares) {
      const auto room = std::find_if(rooms.begin(), rooms.end(),
                                     [&](const Slots& one) { return one.id == share.worker; });
      ASSERT_NE(room, rooms.end());
      EXPECT_TRUE(room->ready);
      EXPECT_LE(share.ranks.size(), static_cast<size_t>(room->free));
      for (const Rank rank : share.ranks) EXPECT_EQ(rank, next++);
    }
    if (!decision.shares.empty()) {
      EXPECT_EQ(next, ranks);
    }
  }
}

// --- GPUs, memory, spreading --------------------------------------------------------------------

const std::vector<WorkerRoom> kMixed = {{"cpu", {8, 0, 64 * kGb}, {8, 0, 64 * kGb}, true},
                                        {"gpu-a", {8, 4, 64 * kGb}, {8, 4, 64 * kGb}, true},
                                        {"gpu-b", {8, 4, 64 * kGb}, {8, 2, 16 * kGb}, true}};

TEST(PlacementOfResources, EachRankHasAllThatItAskedForOnItsWorker) {
  EXPECT_THAT(place({.ranks = 3, .each = {1, 2, 0}}, kMixed).shares,
              ElementsAre(RankShare{"gpu-a", {0, 1}, {}}, RankShare{"gpu-b", {2}, {}}));
  EXPECT_THAT(place({.ranks = 3, .each = {1, 1, 16 * kGb}}, kMixed).shares,
              ElementsAre(RankShare{"gpu-a", {0, 1, 2}, {}}));
  EXPECT_THAT(place({.ranks = 4, .each = {1, 2, 0}}, kMixed).shares, IsEmpty());
  EXPECT_EQ(place({.ranks = 4, .each = {1, 2, 20 * kGb}}, kMixed).reason,
            "needs 4 slots with 2 GPUs and 20.0 GB each; 3 workers are ready with 24 free of 24, 6 "
            "of 8 GPUs, 144 GB of 192 GB of memory: cpu 0, gpu-a 2, gpu-b 0");
}

TEST(PlacementOfResources, WhoNeedsNoGpuStaysAwayFromThem) {
  EXPECT_THAT(place({.ranks = 2}, kMixed).shares, ElementsAre(RankShare{"cpu", {0, 1}, {}}));
}

TEST(Placement, SpreadIsAsEvenAsTheRoomsAllow) {
  const std::vector<Slots> workers = {{"a", 4, 4}, {"b", 4, 1}, {"c", 4, 3}};
  const auto spread = [&](int ranks, int most) {
    std::vector<std::pair<WorkerId, size_t>> counts;
    for (const RankShare& share :
         place({.ranks = ranks, .max_per_worker = most, .style = PlacementStyle::kSpread},
               rooms_of(workers))
             .shares) {
      counts.emplace_back(share.worker, share.ranks.size());
    }
    return counts;
  };
  using Counts = std::vector<std::pair<WorkerId, size_t>>;
  EXPECT_EQ(spread(2, 0), (Counts{{"a", 1}, {"c", 1}}));
  EXPECT_EQ(spread(4, 0), (Counts{{"a", 2}, {"c", 1}, {"b", 1}}));
  EXPECT_EQ(spread(6, 0), (Counts{{"a", 3}, {"c", 2}, {"b", 1}}));
  EXPECT_EQ(spread(8, 0), (Counts{{"a", 4}, {"c", 3}, {"b", 1}}));
  EXPECT_EQ(spread(3, 1), (Counts{{"a", 1}, {"c", 1}, {"b", 1}}));
  EXPECT_EQ(spread(9, 0), Counts{});
}

TEST(WhyItNeverFits, NamesTheLargestThatWould) {
  const auto equal = rooms_of({{"a", 3, 0}, {"b", 3, 3, false}});
  EXPECT_EQ(why_it_never_fits({.ranks = 8}, "rank", equal),
            "8 ranks asked, the largest that fits is 6: 2 nodes x 3 slots");
  EXPECT_EQ(why_it_never_fits({.ranks = 8}, "rank", rooms_of({{"a", 3, 3}, {"b", 4, 4}})),
            "8 ranks asked, the largest that fits is 7: 2 nodes with 7 slots together");
  EXPECT_EQ(why_it_never_fits({.ranks = 4, .max_per_worker = 1}, "rank", equal),
            "4 ranks asked, the largest that fits is 2: 2 nodes x 1 slot (at most 1 on a node)");
  EXPECT_EQ(why_it_never_fits({.ranks = 9, .each = {1, 2, 0}}, "rank", kMixed),
            "9 ranks with 2 GPUs each asked, the largest that fits is 4: 2 nodes x 2 ranks");
  EXPECT_EQ(why_it_never_fits({.each = {1, 8, 0}}, "task", kMixed),
            "a task with 8 GPUs asked, and no node has that: of all nodes the most is 8 slots, 4 "
            "GPUs");
  EXPECT_EQ(why_it_never_fits({.ranks = 8, .max_per_worker = 4, .min_nodes = 2}, "rank", equal),
            "4 ranks on one node asked, and no node has that: of all nodes the most is 3 slots");
}

// --- Elastic gangs and node ranks ---------------------------------------------------------------

TEST(PlaceNodes, TakesAsManyWorkersAsThereAreBetweenMinAndMax) {
  const std::vector<Slots> rooms = {{"a", 4, 4, true},
                                    {"b", 4, 1, true},
                                    {"c", 4, 4, true},
                                    {"d", 4, 4, false},
                                    {"e", 2, 2, true}};
  EXPECT_EQ(place_nodes(1, 4, 4, rooms).shares,
            (std::vector<RankShare>{{"a", {0, 1, 2, 3}, {}}, {"c", {4, 5, 6, 7}, {}}}));
  EXPECT_EQ(place_nodes(1, 1, 4, rooms).shares, (std::vector<RankShare>{{"a", {0, 1, 2, 3}, {}}}));
  const Placed waits = place_nodes(3, 4, 4, rooms);
  EXPECT_TRUE(waits.shares.empty());
  EXPECT_FALSE(waits.impossible);
  EXPECT_NE(waits.reason.find("3 workers with 4 free each at least"), std::string::npos)
      << waits.reason;
  EXPECT_TRUE(place_nodes(5, 6, 4, rooms).impossible);
}

TEST(KeepNodeRanks, SurvivorsStayWhereTheyWere) {
  const std::vector<RankShare> shares = {{"d", {0, 1}, {}}, {"a", {2}, {}}, {"c", {3, 4, 5}, {}}};
  EXPECT_EQ(keep_node_ranks(shares, {"a", "b", "c"}),
            (std::vector<RankShare>{{"a", {0}, {}}, {"d", {1, 2}, {}}, {"c", {3, 4, 5}, {}}}));
  // Fewer than before: who was beyond the end moves into a hole.
  EXPECT_EQ(keep_node_ranks({{"a", {0}, {}}, {"c", {1}, {}}}, {"a", "b", "c"}),
            (std::vector<RankShare>{{"a", {0}, {}}, {"c", {1}, {}}}));
  EXPECT_EQ(keep_node_ranks({{"x", {0}, {}}, {"y", {1}, {}}}, {}),
            (std::vector<RankShare>{{"x", {0}, {}}, {"y", {1}, {}}}));
  EXPECT_TRUE(keep_node_ranks({}, {"a"}).empty());
}

}  // namespace
}  // namespace longhaul

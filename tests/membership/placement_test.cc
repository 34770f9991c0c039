#include "longhaul/membership/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Placement, OneWorkerThatFitsMostTightlyTakesAll) {
  const auto decision =
      place_gang(2, 0, {{"big", 8, 8, true}, {"small", 2, 2, true}, {"mid", 4, 3, true}});
  EXPECT_THAT(decision.shares, ElementsAre(RankShare{"small", {0, 1}}));
}

TEST(Placement, EmptiestWorkersFirstWhenNoneIsLargeEnough) {
  const auto decision = place_gang(7, 0, {{"a", 4, 1, true}, {"b", 4, 4, true}, {"c", 4, 3, true}});
  EXPECT_THAT(decision.shares,
              ElementsAre(RankShare{"b", {0, 1, 2, 3}}, RankShare{"c", {4, 5, 6}}));
}

TEST(Placement, SpreadsWhenAskedTo) {
  const auto decision = place_gang(3, 1, {{"a", 4, 4, true}, {"b", 4, 4, true}, {"c", 1, 1, true}});
  EXPECT_THAT(decision.shares,
              ElementsAre(RankShare{"a", {0}}, RankShare{"b", {1}}, RankShare{"c", {2}}));
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
    std::vector<WorkerRoom> rooms;
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
    for (const WorkerRoom& room : rooms) {
      if (room.ready) available += most > 0 ? std::min(room.free, most) : room.free;
    }
    EXPECT_EQ(decision.shares.empty(), available < ranks);
    Rank next = 0;
    for (const RankShare& share : decision.shares) {
      const auto room = std::find_if(rooms.begin(), rooms.end(),
                                     [&](const WorkerRoom& one) { return one.id == share.worker; });
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

// --- Elastic gangs and node ranks ---------------------------------------------------------------

TEST(PlaceNodes, TakesAsManyWorkersAsThereAreBetweenMinAndMax) {
  const std::vector<WorkerRoom> rooms = {{"a", 4, 4, true},
                                         {"b", 4, 1, true},
                                         {"c", 4, 4, true},
                                         {"d", 4, 4, false},
                                         {"e", 2, 2, true}};
  EXPECT_EQ(place_nodes(1, 4, 4, rooms).shares,
            (std::vector<RankShare>{{"a", {0, 1, 2, 3}}, {"c", {4, 5, 6, 7}}}));
  EXPECT_EQ(place_nodes(1, 1, 4, rooms).shares, (std::vector<RankShare>{{"a", {0, 1, 2, 3}}}));
  const PlacementDecision waits = place_nodes(3, 4, 4, rooms);
  EXPECT_TRUE(waits.shares.empty());
  EXPECT_FALSE(waits.impossible);
  EXPECT_NE(waits.reason.find("3 workers with 4 free each at least"), std::string::npos)
      << waits.reason;
  EXPECT_TRUE(place_nodes(5, 6, 4, rooms).impossible);
}

TEST(KeepNodeRanks, SurvivorsStayWhereTheyWere) {
  const std::vector<RankShare> shares = {{"d", {0, 1}}, {"a", {2}}, {"c", {3, 4, 5}}};
  EXPECT_EQ(keep_node_ranks(shares, {"a", "b", "c"}),
            (std::vector<RankShare>{{"a", {0}}, {"d", {1, 2}}, {"c", {3, 4, 5}}}));
  // Fewer than before: who was beyond the end moves into a hole.
  EXPECT_EQ(keep_node_ranks({{"a", {0}}, {"c", {1}}}, {"a", "b", "c"}),
            (std::vector<RankShare>{{"a", {0}}, {"c", {1}}}));
  EXPECT_EQ(keep_node_ranks({{"x", {0}}, {"y", {1}}}, {}),
            (std::vector<RankShare>{{"x", {0}}, {"y", {1}}}));
  EXPECT_TRUE(keep_node_ranks({}, {"a"}).empty());
}

}  // namespace
}  // namespace longhaul

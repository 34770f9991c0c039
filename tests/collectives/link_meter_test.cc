#include "collectives/link_meter.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

ConnectionReading reading(uint64_t id, uint64_t bytes, double busy, double round_trip,
                          double delivery) {
  return {id, bytes, busy, round_trip, delivery};
}

TEST(LinkMeterTest, ConnectionsThatShareALinkAddUp) {
  LinkMeter meter;
  // Three connections, busy for the same second, a third of 3 MB/s each.
  const double rate =
      meter.update({reading(1, 1'000'000, 1.0, 0, 1e6), reading(2, 1'000'000, 1.0, 0, 1e6),
                    reading(3, 1'000'000, 1.0, 0, 1e6)},
                   1);
  EXPECT_NEAR(rate, 3e6, 1);
}

TEST(LinkMeterTest, OnlyWhatIsNewCounts) {
  LinkMeter meter;
  meter.update({reading(1, 10'000'000, 1.0, 0, 1e7)}, 1);
  EXPECT_NEAR(meter.update({reading(1, 11'000'000, 2.0, 0, 1e6)}, 1), 1e6, 1)
      << "the link has become ten times slower";
}

TEST(LinkMeterTest, RoundTripsOfNewBurstsAreNoTimeOfFlow) {
  LinkMeter meter;
  // Two bursts of 1 MB at 10 MB/s over 100 ms: each is busy for 0.1 s of flow and 0.1 s of waiting.
  EXPECT_NEAR(meter.update({reading(1, 2'000'000, 0.4, 0.1, 1e7)}, 2), 1e7, 1);
}

TEST(LinkMeterTest, ConnectionsThatTakeTurnsDoNotAddUpToMoreThanTheyDelivered) {
  LinkMeter meter;
  EXPECT_NEAR(meter.update({reading(1, 1'000'000, 0.001, 0, 5e6)}, 1), 5e6, 1);
}

TEST(LinkMeterTest, TooLittleTrafficTellsNothing) {
  LinkMeter meter;
  EXPECT_EQ(meter.update({}, 1), 0);
  EXPECT_EQ(meter.update({reading(1, 1000, 0.2, 0.1, 1e4)}, 1), 0);
  meter.update({reading(1, 1'000'000, 1.0, 0, 1e6)}, 1);
  EXPECT_NEAR(meter.update({reading(1, 1'001'000, 1.5, 0, 1e3)}, 1), 1e6, 1)
      << "the last one holds";
}

TEST(LinkMeterTest, WhatIsNoTcpSocketHasNoReading) {
  EXPECT_FALSE(read_connection(-1).has_value());
}

}  // namespace
}  // namespace longhaul

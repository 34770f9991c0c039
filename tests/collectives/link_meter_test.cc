#include "collectives/link_meter.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <vector>

#include "wire/socket.h"

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
  EXPECT_NEAR(meter.update({reading(1, 1'000'000, 0.15, 0, 5e6)}, 1), 5e6, 1);
}

TEST(LinkMeterTest, TooLittleTrafficTellsNothing) {
  LinkMeter meter;
  EXPECT_EQ(meter.update({}, 1), 0);
  EXPECT_EQ(meter.update({reading(1, 1000, 0.2, 0.1, 1e4)}, 1), 0);
  meter.update({reading(1, 1'000'000, 1.0, 0, 1e6)}, 1);
  EXPECT_NEAR(meter.update({reading(1, 1'001'000, 1.5, 0, 1e3)}, 1), 1e6, 1)
      << "the last one holds";
}

// What it shows is an acknowledgement that was held back, or a receiver that slept.
TEST(LinkMeterTest, TrafficThatDidNotFillTheLinkTellsNothing) {
  LinkMeter meter;
  EXPECT_EQ(meter.update({reading(1, 300'000, 0.13, 5e-5, 0)}, 1), 0);
  EXPECT_EQ(meter.update({reading(1, 600'000, 0.26, 5e-5, 0)}, 1), 0);
}

TEST(LinkMeterTest, WitnessesThatDisagreeTellNothing) {
  LinkMeter slow;
  EXPECT_EQ(slow.update({reading(1, 300'000, 0.13, 5e-5, 1e9)}, 1), 0) << "stalled";
  LinkMeter fast;
  EXPECT_EQ(fast.update({reading(1, 3'000'000, 0.01, 5e-5, 6.5e10)}, 1), 0) << "523864 Mbit/s";
  fast.update({reading(1, 13'000'000, 1.01, 5e-5, 1e7)}, 1);
  EXPECT_NEAR(fast.update({reading(1, 13'300'000, 1.51, 5e-5, 1e10)}, 1), 1e7, 1)
      << "what was measured once holds";
}

// 18 Mbit/s were read off loopback, and 523864: both of them of processors.
TEST(LinkMeterTest, AConnectionWithinAHostIsNoLink) {
  const UniqueFd listening = *listen_tcp("127.0.0.1", 0);
  const UniqueFd sender =
      *connect_tcp("127.0.0.1", *local_port(listening.get()), milliseconds(5000));
  const UniqueFd receiver(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const std::vector<uint8_t> bytes(200'000, 7);
  ASSERT_GT(::send(sender.get(), bytes.data(), bytes.size(), 0), 0);
  EXPECT_FALSE(read_connection(sender.get()));
  EXPECT_FALSE(read_connection(receiver.get()));
}

TEST(LinkMeterTest, WhatIsNoTcpSocketHasNoReading) {
  EXPECT_FALSE(read_connection(-1).has_value());
}

}  // namespace
}  // namespace longhaul

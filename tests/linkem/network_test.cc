#include "tools/linkem/network.h"

#include <gtest/gtest.h>

namespace longhaul::linkem {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

HostPlan host_with(double bits_per_second, nanoseconds delay) {
  LinkQuality quality;
  quality.bits_per_second = bits_per_second;
  quality.delay = delay;
  quality.queue = {QueueLimit::Unit::kPackets, 100'000};
  HostPlan host;
  host.up.phases = {{nanoseconds(0), quality}};
  host.down.phases = host.up.phases;
  return host;
}

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

TEST(Network, APacketCrossesTheSendersUpLinkAndTheReceiversDownLink) {
  Network network({host_with(8e6, milliseconds(10)), host_with(4e6, milliseconds(30))}, 1);
  ASSERT_TRUE(network.send(nanoseconds(0), {7, 1000, 0, 1}));
  // 1 ms and 10 ms up, 2 ms and 30 ms down.
  EXPECT_EQ(network.next_due(), milliseconds(11));
  std::vector<Outcome> outcomes;
  network.advance(milliseconds(42), &outcomes);
  EXPECT_TRUE(outcomes.empty());
  EXPECT_EQ(network.next_due(), milliseconds(43));
  network.advance(milliseconds(43), &outcomes);
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_TRUE(outcomes[0].delivered);
  EXPECT_EQ(outcomes[0].packet.id, 7U);
  EXPECT_EQ(outcomes[0].due, milliseconds(43));
  EXPECT_EQ(network.next_due(), std::nullopt);
}

TEST(Network, ACallerWhoLooksLateDoesNotMakeLinksSlow) {
  Network network({host_with(8e6, milliseconds(10)), host_with(4e6, milliseconds(30))}, 1);
  ASSERT_TRUE(network.send(nanoseconds(0), {1, 1000, 0, 1}));
  std::vector<Outcome> outcomes;
  network.advance(seconds(5), &outcomes);
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_EQ(outcomes[0].due, milliseconds(43));
}

TEST(Network, SendersShareTheReceiversDownLink) {
  const HostPlan host = host_with(8e6, nanoseconds(0));
  Network network({host, host, host}, 1);
  for (uint32_t i = 0; i < 500; ++i) {
    ASSERT_TRUE(network.send(nanoseconds(0), {2 * i, 1000, 1, 0}));
    ASSERT_TRUE(network.send(nanoseconds(0), {2 * i + 1, 1000, 2, 0}));
  }
  std::vector<Outcome> outcomes;
  network.advance(seconds(10), &outcomes);
  ASSERT_EQ(outcomes.size(), 1000U);
  // Each up-link is done after half a second; together they take one down-link a whole one. In
  // turns, as they came.
  EXPECT_EQ(outcomes.back().due, milliseconds(1001));
  for (uint32_t i = 0; i < 1000; ++i) EXPECT_EQ(outcomes[i].packet.id, i);
}

TEST(Network, DroppedPacketsAreToldSoThatTheirBytesCanBeFreed) {
  HostPlan lossy = host_with(kNoLimit, nanoseconds(0));
  lossy.down.phases[0].quality.loss = 1;
  HostPlan full = host_with(8e6, nanoseconds(0));
  full.up.phases[0].quality.queue = {QueueLimit::Unit::kPackets, 1};
  Network network({full, lossy}, 1);
  EXPECT_TRUE(network.send(nanoseconds(0), {1, 1000, 0, 1}));
  EXPECT_FALSE(network.send(nanoseconds(0), {2, 1000, 0, 1}));
  std::vector<Outcome> outcomes;
  network.advance(seconds(1), &outcomes);
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_FALSE(outcomes[0].delivered);
  EXPECT_EQ(outcomes[0].packet.id, 1U);
  EXPECT_EQ(network.up(0).dropped_queue, 1U);
  EXPECT_EQ(network.down(1).dropped_loss, 1U);
  EXPECT_EQ(network.in_flight(), 0U);
}

TEST(Network, AHostCanSendToItself) {
  Network network({host_with(kNoLimit, milliseconds(1))}, 1);
  ASSERT_TRUE(network.send(nanoseconds(0), {1, 20, 0, 0}));
  std::vector<Outcome> outcomes;
  network.advance(milliseconds(2), &outcomes);
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_TRUE(outcomes[0].delivered);
}

}  // namespace
}  // namespace longhaul::linkem

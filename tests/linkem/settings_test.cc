#include "tools/linkem/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul::linkem {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

Result<std::string> no_files(const std::string& path) {
  return Failure{ErrorKind::kInvalid, "cannot read " + path};
}

Setting all(const std::string& key, const std::string& value) {
  return {"--" + key, {}, {}, key, value};
}
Setting only(size_t host, const std::string& key, const std::string& value) {
  return {"--host", {}, host, key, value};
}

std::vector<HostPlan> plan(size_t hosts, std::vector<Setting> settings) {
  return *plan_hosts(hosts, std::move(settings), no_files);
}

std::string complaint(const std::vector<Setting>& settings) {
  const Result<std::vector<HostPlan>> planned = plan_hosts(2, settings, no_files);
  return planned ? "" : planned.failure().message;
}

const LinkQuality& first(const LinkPlan& plan) {
  return plan.phases[0].quality;
}

TEST(Settings, TwoHostsWithTheSameRttSeeJustThatBetweenThem) {
  const std::vector<HostPlan> hosts = plan(2, {all("rtt", "100ms")});
  const nanoseconds there = first(hosts[0].up).delay + first(hosts[1].down).delay;
  const nanoseconds back = first(hosts[1].up).delay + first(hosts[0].down).delay;
  EXPECT_EQ(there + back, milliseconds(100));
}

TEST(Settings, TheLossOfAPathIsThatOfItsTwoLinksTogether) {
  const std::vector<HostPlan> hosts = plan(2, {all("loss", "19%")});
  EXPECT_NEAR(first(hosts[0].up).loss, 0.1, 1e-12);
  EXPECT_NEAR(first(hosts[1].down).loss, 0.1, 1e-12);
}

TEST(Settings, OneDirectionIsTakenAtItsWord) {
  const std::vector<HostPlan> hosts =
      plan(1, {all("rate", "10mbit"), all("up-rate", "1mbit"), all("down-loss", "2%"),
               all("up-delay", "7ms"), all("down-jitter", "3ms")});
  EXPECT_EQ(first(hosts[0].up).bits_per_second, 1e6);
  EXPECT_EQ(first(hosts[0].down).bits_per_second, 10e6);
  EXPECT_EQ(first(hosts[0].up).loss, 0);
  EXPECT_DOUBLE_EQ(first(hosts[0].down).loss, 0.02);
  EXPECT_EQ(first(hosts[0].up).delay, milliseconds(7));
  EXPECT_EQ(first(hosts[0].down).jitter, milliseconds(3));
}

TEST(Settings, ThoseOfOneHostReplaceThoseOfAll) {
  const std::vector<HostPlan> hosts =
      plan(3, {only(1, "rate", "5mbit"), all("rate", "25mbit"), all("rtt", "20ms")});
  EXPECT_EQ(first(hosts[0].up).bits_per_second, 25e6);
  EXPECT_EQ(first(hosts[1].up).bits_per_second, 5e6);
  EXPECT_EQ(first(hosts[1].up).delay, milliseconds(5));
}

TEST(Settings, AQueueHoldsOneRoundTripUnlessItIsSaid) {
  const std::vector<HostPlan> hosts =
      plan(2, {all("rate", "80mbit"), all("rtt", "100ms"), only(1, "queue", "9packets")});
  EXPECT_EQ(first(hosts[0].up).queue, (QueueLimit{QueueLimit::Unit::kBytes, 1'000'000}));
  EXPECT_EQ(first(hosts[1].up).queue, (QueueLimit{QueueLimit::Unit::kPackets, 9}));
}

TEST(Settings, HostSettingsAreReadWithTheirOutages) {
  const Result<std::vector<Setting>> settings =
      parse_host_settings("1:rate=5mbit,outage=10s+2s,30s+500ms,up-loss=1%");
  ASSERT_TRUE(settings.ok()) << settings.failure().message;
  const std::vector<HostPlan> hosts = plan(2, *settings);
  EXPECT_TRUE(hosts[0].up.outages.empty());
  ASSERT_EQ(hosts[1].up.outages.size(), 2U);
  EXPECT_EQ(hosts[1].down.outages[1].from, seconds(30));
  EXPECT_EQ(hosts[1].down.outages[1].length, milliseconds(500));
  EXPECT_DOUBLE_EQ(first(hosts[1].up).loss, 0.01);
}

TEST(Settings, ATraceChangesLinksAsTimeGoesBy) {
  Result<std::vector<Setting>> settings = parse_trace(
      "t", "# what  happens\n0 rate=10mbit\n\n2.5\trate=1mbit host=1 rtt=40ms # bad\r\n");
  ASSERT_TRUE(settings.ok()) << settings.failure().message;
  const std::vector<HostPlan> hosts = plan(2, *settings);
  ASSERT_EQ(hosts[0].up.phases.size(), 2U);
  EXPECT_EQ(hosts[0].up.phases[1].from, milliseconds(2500));
  EXPECT_EQ(hosts[0].up.phases[1].quality.bits_per_second, 1e6);
  EXPECT_EQ(hosts[0].up.phases[1].quality.delay, nanoseconds(0));
  EXPECT_EQ(hosts[1].up.phases[1].quality.delay, milliseconds(10));
  EXPECT_EQ(hosts[1].up.phases[1].quality.bits_per_second, 1e6);
}

TEST(Settings, WhatIsWrongIsNamedWithItsPlace) {
  EXPECT_THAT(complaint({all("rat", "1mbit")}), HasSubstr("did you mean 'rate'"));
  EXPECT_THAT(complaint({all("up-rtt", "1ms")}), HasSubstr("unknown key 'up-rtt'"));
  EXPECT_THAT(complaint({all("rate", "fast")}), HasSubstr("--rate: 'fast' is no rate"));
  EXPECT_THAT(complaint({all("outage", "10s")}), HasSubstr("START+LENGTH"));
  EXPECT_THAT(complaint({only(2, "rate", "1mbit")}), HasSubstr("no host 2: they are 0 to 1"));
  EXPECT_THAT(complaint({all("mahimahi-up", "/no/file")}), HasSubstr("cannot read /no/file"));
  EXPECT_THAT(parse_host_settings("rate=1mbit").failure().message, HasSubstr("begin with a host"));
  EXPECT_THAT(parse_host_settings("1:rate").failure().message, HasSubstr("KEY=VALUE"));
  EXPECT_THAT(parse_host_settings("-1:rate=1mbit").failure().message, HasSubstr("host"));
  EXPECT_THAT(parse_trace("t", "0 rate=1mbit\nx rate=1mbit").failure().message,
              HasSubstr("t line 2: 'x' is no time"));
  EXPECT_THAT(parse_trace("t", "1 outage=1s+1s").failure().message, HasSubstr("times of its own"));
  EXPECT_THAT(parse_trace("t", "1 host=a rate=1mbit").failure().message, HasSubstr("is no host"));
}

TEST(Settings, AMahimahiTraceTakesThePlaceOfARate) {
  const ReadFile file = [](const std::string&) -> Result<std::string> {
    return std::string("1\n2\n");
  };
  const Result<std::vector<HostPlan>> hosts =
      plan_hosts(1, {all("mahimahi-up", "f"), all("down-rate", "1mbit")}, file);
  ASSERT_TRUE(hosts.ok());
  EXPECT_NE((*hosts)[0].up.mahimahi, nullptr);
  EXPECT_EQ((*hosts)[0].down.mahimahi, nullptr);
  const Result<std::vector<HostPlan>> both =
      plan_hosts(1, {all("rate", "1mbit"), all("mahimahi-up", "f")}, file);
  ASSERT_FALSE(both.ok());
  EXPECT_THAT(both.failure().message, HasSubstr("not both"));
}

}  // namespace
}  // namespace longhaul::linkem

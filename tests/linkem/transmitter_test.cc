#include "tools/linkem/transmitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul::linkem {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

TEST(RateTransmitter, ABusyLinkSendsAtItsRateToTheNanosecond) {
  // 7 Mbit/s: 1500 bytes take 1714285.714... ns, which no integer holds.
  const auto link = make_rate_transmitter({{nanoseconds(0), 7e6}});
  nanoseconds departure{0};
  for (int i = 0; i < 70'000; ++i) departure = link->transmit(nanoseconds(0), 1500);
  EXPECT_NEAR(static_cast<double>(departure.count()), 120e9, 1e3);
}

TEST(RateTransmitter, AnIdleLinkSendsAtOnce) {
  const auto link = make_rate_transmitter({{nanoseconds(0), 8e6}});
  EXPECT_EQ(link->transmit(milliseconds(0), 1000), milliseconds(1));
  EXPECT_EQ(link->transmit(milliseconds(10), 1000), milliseconds(11));
  EXPECT_EQ(link->transmit(milliseconds(10), 1000), milliseconds(12));
}

TEST(RateTransmitter, WithoutALimitAPacketLeavesWhenItComes) {
  const auto link = make_rate_transmitter({RateStep{}});
  EXPECT_EQ(link->transmit(milliseconds(3), 65535), milliseconds(3));
  EXPECT_EQ(link->transmit(milliseconds(3), 65535), milliseconds(3));
}

TEST(RateTransmitter, TheRateChangesInTheMiddleOfAPacket) {
  // 500 bytes in the first half millisecond, the other 500 at a tenth of the rate.
  const auto link = make_rate_transmitter({{nanoseconds(0), 8e6}, {nanoseconds(500'000), 0.8e6}});
  EXPECT_EQ(link->transmit(nanoseconds(0), 1000), nanoseconds(5'500'000));
}

TEST(RateTransmitter, ChangesThatNobodySawAreSkipped) {
  const auto link =
      make_rate_transmitter({{seconds(0), 8e6}, {seconds(1), 1e3}, {seconds(2), 16e6}});
  EXPECT_EQ(link->transmit(seconds(3), 1000), seconds(3) + nanoseconds(500'000));
}

TEST(Mahimahi, PacketsLeaveAtTheOpportunitiesOfTheTrace) {
  const auto link = make_mahimahi_transmitter(*parse_mahimahi("1\n1\n5\n10\n"));
  EXPECT_EQ(link->transmit(milliseconds(0), 1500), milliseconds(1));
  EXPECT_EQ(link->transmit(milliseconds(0), 1500), milliseconds(1));
  EXPECT_EQ(link->transmit(milliseconds(0), 1500), milliseconds(5));
  EXPECT_EQ(link->transmit(milliseconds(0), 1500), milliseconds(10));
  // And from its begin again, 10 ms later.
  EXPECT_EQ(link->transmit(milliseconds(0), 1500), milliseconds(11));
}

TEST(Mahimahi, SmallPacketsShareAnOpportunityAndLargeOnesTakeSeveral) {
  const auto link = make_mahimahi_transmitter(*parse_mahimahi("2\n4\n6\n8\n"));
  EXPECT_EQ(link->transmit(milliseconds(0), 700), milliseconds(2));
  EXPECT_EQ(link->transmit(milliseconds(0), 800), milliseconds(2));
  EXPECT_EQ(link->transmit(milliseconds(0), 1600), milliseconds(6));
  EXPECT_EQ(link->transmit(milliseconds(0), 1400), milliseconds(6));
}

TEST(Mahimahi, AnOpportunityThatFindsNothingIsLost) {
  const auto link = make_mahimahi_transmitter(*parse_mahimahi("1\n2\n3\n100\n"));
  EXPECT_EQ(link->transmit(nanoseconds(2'000'001), 100), milliseconds(3));
  EXPECT_EQ(link->transmit(milliseconds(50), 100), milliseconds(100));
  EXPECT_EQ(link->transmit(milliseconds(250), 100), milliseconds(300));
}

TEST(Mahimahi, ABrokenTraceIsRefusedByLine) {
  EXPECT_THAT(parse_mahimahi("1\nx\n").failure().message, HasSubstr("line 2"));
  EXPECT_THAT(parse_mahimahi("1\n-2\n").failure().message, HasSubstr("line 2"));
  EXPECT_THAT(parse_mahimahi("5\n4\n").failure().message, HasSubstr("must not fall"));
  EXPECT_THAT(parse_mahimahi("").failure().message, HasSubstr("no packet time"));
  EXPECT_THAT(parse_mahimahi("0\n0\n").failure().message, HasSubstr("no packet time"));
  EXPECT_FALSE(parse_mahimahi("99999999999999999999\n").ok());
  EXPECT_TRUE(parse_mahimahi("0\r\n7\r\n").ok());
}

}  // namespace
}  // namespace longhaul::linkem

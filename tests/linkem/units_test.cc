#include "tools/linkem/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace longhaul::linkem {
namespace {

using ::testing::HasSubstr;

TEST(Units, RatesAreBitsPerSecondInDecimalUnits) {
  EXPECT_EQ(*parse_rate("25mbit"), 25e6);
  EXPECT_EQ(*parse_rate("1.5Gbit"), 1.5e9);
  EXPECT_EQ(*parse_rate("800kbit"), 8e5);
  EXPECT_EQ(*parse_rate("1000bit"), 1e3);
  EXPECT_TRUE(std::isinf(*parse_rate("none")));
}

TEST(Units, DurationsInNanoseconds) {
  EXPECT_EQ(*parse_duration("100ms"), std::chrono::milliseconds(100));
  EXPECT_EQ(*parse_duration("1.5s"), std::chrono::milliseconds(1500));
  EXPECT_EQ(*parse_duration("20us"), std::chrono::microseconds(20));
  EXPECT_EQ(*parse_duration("2m"), std::chrono::minutes(2));
  EXPECT_EQ(*parse_duration("0"), nanoseconds(0));
}

TEST(Units, SharesNeedTheirPercentSign) {
  EXPECT_DOUBLE_EQ(*parse_share("0.5%"), 0.005);
  EXPECT_EQ(*parse_share("100%"), 1.0);
  EXPECT_EQ(*parse_share("0"), 0.0);
  EXPECT_THAT(parse_share("0.5").failure().message, HasSubstr("as in 0.5%"));
}

TEST(Units, QueuesInBytesOrPackets) {
  EXPECT_EQ(*parse_queue("256KiB"), (QueueLimit{QueueLimit::Unit::kBytes, 262144}));
  EXPECT_EQ(*parse_queue("1MB"), (QueueLimit{QueueLimit::Unit::kBytes, 1000000}));
  EXPECT_EQ(*parse_queue("100packets"), (QueueLimit{QueueLimit::Unit::kPackets, 100}));
}

TEST(Units, WhatCannotBeReadIsRefusedWithTheRange) {
  for (const char* text : {"", "mbit", "25", "25mb", "-1mbit", "0mbit", "nanmbit", "infgbit",
                           "999bit", "2000gbit", "0x10mbit", "1 mbit"}) {
    const Result<double> rate = parse_rate(text);
    ASSERT_FALSE(rate.ok()) << text;
    EXPECT_EQ(rate.failure().kind, ErrorKind::kInvalid);
    EXPECT_THAT(rate.failure().message, HasSubstr("1kbit to 1000gbit"));
  }
  for (const char* text : {"", "100", "-1ms", "61m", "ms", "1e3ms", "1ms2"}) {
    EXPECT_FALSE(parse_duration(text).ok()) << text;
  }
  for (const char* text : {"", "%", "101%", "-1%", "1%%"}) {
    EXPECT_FALSE(parse_share(text).ok()) << text;
  }
  for (const char* text : {"", "0B", "100", "-5packets", "17GB", "0packets"}) {
    EXPECT_FALSE(parse_queue(text).ok()) << text;
  }
}

TEST(Units, RatesPrintInTheLargestUnit) {
  EXPECT_EQ(format_rate(*parse_rate("25mbit")), "25 Mbit/s");
  EXPECT_EQ(format_rate(*parse_rate("1.5gbit")), "1.5 Gbit/s");
  EXPECT_EQ(format_rate(*parse_rate("none")), "no limit");
}

}  // namespace
}  // namespace longhaul::linkem

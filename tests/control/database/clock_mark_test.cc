#include "control/database/clock_mark.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

TEST(ClockMark, TheSameStartOfTheHostGoesOnCounting) {
  EXPECT_EQ(clock_shift({7, 1'000}, {7, 5'000}).count(), 0);
}

TEST(ClockMark, OnAnotherStartWhatPassedBeforeIsKept) {
  // Begun at 400 of the old clock, seen for the last time at 1000: 600 ms.
  const milliseconds shift = clock_shift({7, 1'000}, {8, 50});
  EXPECT_EQ((from_ms(50) - (from_ms(400) + shift)), milliseconds(600));
}

TEST(ClockMark, AnUnknownStartIsAnother) {
  EXPECT_EQ(clock_shift({0, 1'000}, {0, 5'000}).count(), 4'000);
}

TEST(ClockMark, AClockThatStandsBeforeItsMarkIsAnother) {
  EXPECT_EQ(clock_shift({7, 5'000}, {7, 1'000}).count(), -4'000);
}

TEST(ClockMark, WithoutAMarkNothingIsMoved) {
  EXPECT_EQ(clock_shift({0, 0}, {7, 5'000}).count(), 0);
}

TEST(ClockMark, ThisHostHasStarted) {
  EXPECT_NE(this_start(), 0);
  EXPECT_EQ(this_start(), this_start());
}

}  // namespace
}  // namespace longhaul

#include "cluster/scheduling/resources.h"

#include <gtest/gtest.h>

#include <limits>

namespace longhaul {
namespace {

constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();

TEST(Resources, WhatIsScarcestDecides) {
  EXPECT_EQ(how_many({8, 4, 100}, {1, 0, 0}), 8);
  EXPECT_EQ(how_many({8, 4, 100}, {1, 2, 0}), 2);
  EXPECT_EQ(how_many({8, 4, 100}, {1, 1, 60}), 1);
  EXPECT_EQ(how_many({8, 4, 100}, {1, 0, 101}), 0);
  EXPECT_EQ(how_many({8, 0, kMost}, {1, 1, 1}), 0);
}

TEST(Resources, NeverBelowZeroAndNeverWrapped) {
  EXPECT_EQ((Resources{1, 2, 3} - Resources{2, 1, 9}), (Resources{0, 1, 0}));
  EXPECT_EQ((Resources{1, 1, kMost} + Resources{1, 1, 2}), (Resources{2, 2, kMost}));
  EXPECT_EQ((Resources{1, 0, kMost / 2} * 3), (Resources{3, 0, kMost}));
  EXPECT_EQ((Resources{1, 2, 3} * 0), Resources{});
  EXPECT_EQ(both({1, 5, 3}, {2, 4, 3}), (Resources{1, 4, 3}));
}

TEST(Resources, InWords) {
  EXPECT_EQ(beyond_slots({4, 0, 0}), "");
  EXPECT_EQ(beyond_slots({1, 1, 0}), "1 GPU");
  EXPECT_EQ(beyond_slots({1, 2, 4'000'000'000}), "2 GPUs and 4.00 GB");
}

}  // namespace
}  // namespace longhaul

#include "cluster/failure/backoff.h"

#include <gtest/gtest.h>

#include <set>

namespace longhaul {
namespace {

TEST(Backoff, DoublesUpToItsLimitAndJittersWithinTheUpperHalf) {
  const Backoff backoff{milliseconds(100), milliseconds(1000)};
  const int most[] = {100, 200, 400, 800, 1000, 1000};
  for (uint32_t failures = 1; failures <= 6; ++failures) {
    const milliseconds longest(most[failures - 1]);
    std::set<milliseconds> delays;
    for (uint64_t random = 0; random < 2000; ++random) {
      const milliseconds delay = backoff.delay(failures, random);
      EXPECT_GE(delay, longest / 2);
      EXPECT_LE(delay, longest);
      delays.insert(delay);
    }
    EXPECT_EQ(*delays.begin(), longest / 2);
    EXPECT_EQ(*delays.rbegin(), longest);
  }
}

TEST(Backoff, BearsAnyNumberOfFailuresAndNoDelayAtAll) {
  EXPECT_LE(Backoff{}.delay(4'000'000'000u, 7), Backoff{}.limit);
  EXPECT_EQ((Backoff{milliseconds(0), milliseconds(60'000)}.delay(3, 7)), milliseconds(0));
  EXPECT_LE((Backoff{milliseconds(500), milliseconds(20)}.delay(1, 7)), milliseconds(20));
}

}  // namespace
}  // namespace longhaul

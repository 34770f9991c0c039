#include "tools/linkem/link.h"

#include <gtest/gtest.h>

#include <vector>

namespace longhaul::linkem {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

LinkPlan plan_of(const LinkQuality& quality) {
  LinkPlan plan;
  plan.phases = {{nanoseconds(0), quality}};
  return plan;
}

LinkQuality with_large_queue() {
  LinkQuality quality;
  quality.queue = {QueueLimit::Unit::kPackets, 1'000'000};
  return quality;
}

// The fates of `count` packets of 1000 bytes, one each `gap`.
std::vector<Fate> fates(Link* link, int count, nanoseconds gap) {
  std::vector<Fate> result;
  result.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) result.push_back(link->offer(i * gap, 1000).fate);
  return result;
}

TEST(Link, DelayComesOnTopOfSerialization) {
  LinkQuality quality;
  quality.bits_per_second = 8e6;
  quality.delay = milliseconds(25);
  Link link(plan_of(quality), 1, 0);
  const Link::Verdict first = link.offer(milliseconds(100), 1000);
  EXPECT_EQ(first.fate, Fate::kArrives);
  EXPECT_EQ(first.due, milliseconds(126));
  EXPECT_EQ(link.offer(milliseconds(100), 1000).due, milliseconds(127));
}

TEST(Link, TheTailIsDroppedWhenTheQueueIsFull) {
  LinkQuality quality;
  quality.bits_per_second = 8e6;  // 1000 bytes in 1 ms
  quality.queue = {QueueLimit::Unit::kPackets, 3};
  Link link(plan_of(quality), 1, 0);
  using enum Fate;
  EXPECT_EQ(fates(&link, 5, nanoseconds(0)),
            (std::vector<Fate>{kArrives, kArrives, kArrives, kQueueFull, kQueueFull}));
  // One has left 1 ms later, so there is room for one.
  EXPECT_EQ(link.offer(milliseconds(1), 1000).fate, kArrives);
  EXPECT_EQ(link.offer(milliseconds(1), 1000).fate, kQueueFull);
  EXPECT_EQ(link.counters().packets, 7U);
  EXPECT_EQ(link.counters().dropped_queue, 3U);
  EXPECT_EQ(link.counters().delivered_packets, 4U);
  EXPECT_EQ(link.counters().max_queue_packets, 3U);
  EXPECT_EQ(link.counters().max_queue_bytes, 3000U);
}

TEST(Link, AQueueOfBytesCountsBytes) {
  LinkQuality quality;
  quality.bits_per_second = 8e6;
  quality.queue = {QueueLimit::Unit::kBytes, 2500};
  Link link(plan_of(quality), 1, 0);
  EXPECT_EQ(link.offer(nanoseconds(0), 1500).fate, Fate::kArrives);
  EXPECT_EQ(link.offer(nanoseconds(0), 1500).fate, Fate::kQueueFull);
  EXPECT_EQ(link.offer(nanoseconds(0), 1000).fate, Fate::kArrives);
}

TEST(Link, AnIdleLinkTakesAPacketLargerThanItsQueue) {
  LinkQuality quality;
  quality.bits_per_second = 8e6;
  quality.queue = {QueueLimit::Unit::kBytes, 1};
  Link link(plan_of(quality), 1, 0);
  EXPECT_EQ(link.offer(nanoseconds(0), 1500).fate, Fate::kArrives);
}

TEST(Link, LosesItsShareAndNoMore) {
  LinkQuality quality = with_large_queue();
  quality.loss = 0.02;
  Link link(plan_of(quality), 1, 0);
  fates(&link, 100'000, nanoseconds(0));
  // Five standard deviations of 100,000 draws.
  EXPECT_NEAR(static_cast<double>(link.counters().dropped_loss), 2000, 222);
  EXPECT_EQ(link.counters().delivered_packets, 100'000 - link.counters().dropped_loss);
}

TEST(Link, LostPacketsTookTheirTimeOnTheWire) {
  LinkQuality quality = with_large_queue();
  quality.bits_per_second = 8e6;
  quality.loss = 0.5;
  Link link(plan_of(quality), 1, 0);
  for (int i = 0; i < 100; ++i) {
    const Link::Verdict verdict = link.offer(nanoseconds(0), 1000);
    if (verdict.fate == Fate::kArrives) {
      EXPECT_EQ(verdict.due, milliseconds(i + 1));
    }
  }
}

TEST(Link, AllOrNothingIsLostAtTheEndsOfTheRange) {
  LinkQuality quality = with_large_queue();
  quality.loss = 1;
  Link all(plan_of(quality), 1, 0);
  fates(&all, 1000, nanoseconds(0));
  EXPECT_EQ(all.counters().dropped_loss, 1000U);
  quality.loss = 0;
  Link none(plan_of(quality), 1, 0);
  fates(&none, 1000, nanoseconds(0));
  EXPECT_EQ(none.counters().dropped_loss, 0U);
}

TEST(Link, TheSameSeedDecidesTheSameAndOthersDiffer) {
  LinkQuality quality = with_large_queue();
  quality.loss = 0.3;
  Link one(plan_of(quality), 7, 0);
  Link again(plan_of(quality), 7, 0);
  Link other_seed(plan_of(quality), 8, 0);
  Link other_link(plan_of(quality), 7, 1);
  const std::vector<Fate> expected = fates(&one, 1000, nanoseconds(0));
  // When packets come makes no difference to what happens to them.
  EXPECT_EQ(fates(&again, 1000, milliseconds(5)), expected);
  EXPECT_NE(fates(&other_seed, 1000, nanoseconds(0)), expected);
  EXPECT_NE(fates(&other_link, 1000, nanoseconds(0)), expected);
}

TEST(Link, AnOutageTakesWhatIsSentInItAndNothingElse) {
  LinkPlan plan;
  plan.outages = {{seconds(10), seconds(2)}, {seconds(20), seconds(1)}};
  Link link(plan, 1, 0);
  const auto fate_at = [&](nanoseconds time) { return link.offer(time, 100).fate; };
  EXPECT_EQ(fate_at(seconds(10) - nanoseconds(1)), Fate::kArrives);
  EXPECT_EQ(fate_at(seconds(10)), Fate::kOutage);
  EXPECT_EQ(fate_at(seconds(12) - nanoseconds(1)), Fate::kOutage);
  EXPECT_EQ(fate_at(seconds(12)), Fate::kArrives);
  EXPECT_EQ(fate_at(seconds(20)), Fate::kOutage);
  EXPECT_EQ(fate_at(seconds(21)), Fate::kArrives);
  EXPECT_EQ(link.counters().dropped_outage, 3U);
}

TEST(Link, JitterStaysInItsRangeAndKeepsTheOrder) {
  LinkQuality quality = with_large_queue();
  quality.delay = milliseconds(50);
  quality.jitter = milliseconds(5);
  Link link(plan_of(quality), 1, 0);
  nanoseconds least = seconds(1);
  nanoseconds most{0};
  nanoseconds before{0};
  for (int i = 0; i < 10'000; ++i) {
    const nanoseconds now = i * milliseconds(20);
    const nanoseconds due = link.offer(now, 100).due;
    EXPECT_GE(due, before);
    before = due;
    least = std::min(least, due - now);
    most = std::max(most, due - now);
  }
  EXPECT_GE(least, milliseconds(45));
  EXPECT_LT(least, milliseconds(46));
  EXPECT_LE(most, milliseconds(55));
  EXPECT_GT(most, milliseconds(54));
}

TEST(Link, JitterLargerThanTheDelaySendsNothingIntoThePast) {
  LinkQuality quality = with_large_queue();
  quality.delay = milliseconds(1);
  quality.jitter = milliseconds(50);
  Link link(plan_of(quality), 1, 0);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_GE(link.offer(i * seconds(1), 100).due, i * seconds(1));
  }
}

TEST(Link, ReorderedPacketsAreOvertaken) {
  LinkQuality quality = with_large_queue();
  quality.delay = milliseconds(10);
  quality.reorder = 0.1;
  quality.reorder_by = milliseconds(3);
  Link link(plan_of(quality), 1, 0);
  uint64_t held_back = 0;
  for (int i = 0; i < 10'000; ++i) {
    const nanoseconds delay = link.offer(i * milliseconds(1), 100).due - i * milliseconds(1);
    if (delay == milliseconds(13)) {
      ++held_back;
    } else {
      EXPECT_EQ(delay, milliseconds(10));
    }
  }
  EXPECT_EQ(link.counters().reordered, held_back);
  EXPECT_NEAR(static_cast<double>(held_back), 1000, 150);
  EXPECT_EQ(link.counters().delivered_packets, 10'000U);
}

TEST(Link, ChangesAtItsTimes) {
  LinkPlan plan;
  LinkQuality late;
  late.delay = milliseconds(200);
  LinkQuality lossy;
  lossy.loss = 1;
  plan.phases = {{nanoseconds(0), LinkQuality{}}, {seconds(1), late}, {seconds(2), lossy}};
  Link link(plan, 1, 0);
  EXPECT_EQ(link.offer(milliseconds(999), 100).due, milliseconds(999));
  EXPECT_EQ(link.offer(milliseconds(1000), 100).due, milliseconds(1200));
  EXPECT_EQ(link.offer(milliseconds(2000), 100).fate, Fate::kLost);
}

}  // namespace
}  // namespace longhaul::linkem

#include "cluster/workers/heartbeat_jitter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "cluster/workers/worker_table.h"

namespace longhaul {
namespace {

constexpr milliseconds kInterval{1000};
constexpr milliseconds kMostMargin{5000};

Instant at(double ms) {
  return Instant(milliseconds(1'000'000 + static_cast<int64_t>(ms)));
}

// When heartbeats arrive that are sent every interval over a link that keeps their order: each is
// late by a random time of up to `jitter_ms`, and behind a stall of up to `stall_ms` they come
// together.
std::vector<double> arrivals(std::mt19937& random, int count, double jitter_ms,
                             double stall_probability, double stall_ms) {
  std::uniform_real_distribution<double> unit(0, 1);
  std::vector<double> times;
  double free_at = 0;
  for (int i = 0; i < count; ++i) {
    const double sent = i * static_cast<double>(kInterval.count());
    double arrives = sent + unit(random) * jitter_ms;
    if (unit(random) < stall_probability) arrives += unit(random) * stall_ms;
    free_at = std::max(free_at, arrives);
    times.push_back(free_at);
  }
  return times;
}

TEST(HeartbeatJitter, NothingIsGrantedToAWorkerThatIsOnTime) {
  HeartbeatJitter jitter;
  EXPECT_EQ(jitter.margin(kMostMargin), milliseconds(0));
  for (int beat = 0; beat < 100; ++beat) jitter.arrived(at(beat * 1000), kInterval);
  EXPECT_EQ(jitter.margin(kMostMargin), milliseconds(0));
}

TEST(HeartbeatJitter, AQuietLinkIsNeverGrantedMoreThanEightTimesItsJitter) {
  for (unsigned seed = 0; seed < 500; ++seed) {
    std::mt19937 random(seed);
    const double most_late = std::uniform_real_distribution<double>(0, 60)(random);
    HeartbeatJitter jitter;
    for (const double time : arrivals(random, 200, most_late, 0, 0)) {
      jitter.arrived(at(time), kInterval);
      ASSERT_LE(jitter.margin(kMostMargin).count(), 8 * most_late + 8) << "seed " << seed;
    }
  }
}

TEST(HeartbeatJitter, WhateverArrivesItStaysWithinItsBounds) {
  for (unsigned seed = 0; seed < 500; ++seed) {
    std::mt19937 random(seed);
    std::exponential_distribution<double> gap(1.0 / 3000);
    HeartbeatJitter jitter;
    double time = 0;
    for (int beat = 0; beat < 200; ++beat) {
      jitter.arrived(at(time += gap(random)), kInterval);
      ASSERT_GE(jitter.margin(kMostMargin), milliseconds(0));
      ASSERT_LE(jitter.margin(kMostMargin), kMostMargin);
    }
  }
}

TEST(HeartbeatJitter, AStallIsForgottenWhenTheLinkIsQuietAgain) {
  HeartbeatJitter jitter;
  jitter.arrived(at(0), kInterval);
  jitter.arrived(at(4500), kInterval);
  EXPECT_GT(jitter.margin(kMostMargin), milliseconds(1000));
  for (int beat = 1; beat <= 30; ++beat) jitter.arrived(at(4500 + beat * 1000), kInterval);
  EXPECT_LT(jitter.margin(kMostMargin), milliseconds(50));
}

TEST(HeartbeatJitter, WhatTheListenerSleptThroughIsNotTheLinks) {
  HeartbeatJitter jitter;
  jitter.arrived(at(0), kInterval);
  jitter.forgive(milliseconds(60'000));
  jitter.arrived(at(61'000), kInterval);
  EXPECT_EQ(jitter.margin(kMostMargin), milliseconds(0));
}

// How often a worker that is there all the time is taken for unreachable and for lost.
struct FalseAlarms {
  int unreachable = 0;
  int lost = 0;
};

FalseAlarms alarms(const std::vector<double>& times, bool adaptive) {
  WorkerOptions options;
  if (!adaptive) options.most_margin = milliseconds(0);
  WorkerTable table(options);
  const auto now = [](double ms) { return Now{at(ms), 0}; };
  table.register_worker(1, {"a", "x", "host", "127.0.0.1", 1, 1, "0", {}, {}}, now(0));
  FalseAlarms alarms;
  for (const double time : times) {
    while (const auto next = table.next_deadline()) {
      if (*next >= at(time)) break;
      table.sweep(*next);
      const WorkerState state = table.find("a")->state;
      alarms.unreachable += state == WorkerState::kUnreachable;
      if (state == WorkerState::kLost) {
        ++alarms.lost;
        return alarms;
      }
    }
    table.heartbeat(1, now(time));
  }
  return alarms;
}

TEST(AdaptiveSilence, AnUnsteadyLinkIsTakenForDeadFarLessOften) {
  FalseAlarms fixed, adaptive;
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const std::vector<double> times = arrivals(random, 300, 200, 0.2, 4000);
    const FalseAlarms one = alarms(times, false), other = alarms(times, true);
    fixed.unreachable += one.unreachable;
    fixed.lost += one.lost;
    adaptive.unreachable += other.unreachable;
    adaptive.lost += other.lost;
  }
  EXPECT_GT(fixed.unreachable, 1000);
  EXPECT_LT(adaptive.unreachable, fixed.unreachable / 3);
  EXPECT_GT(fixed.lost, 10);
  EXPECT_LT(adaptive.lost, fixed.lost / 4);
}

TEST(AdaptiveSilence, OnAQuietLinkADeadWorkerIsUnreachableWithinThreeAndAHalfSeconds) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    WorkerTable table{WorkerOptions()};
    table.register_worker(1, {"a", "x", "host", "127.0.0.1", 1, 1, "0", {}, {}}, {at(0), 0});
    double last = 0;
    for (const double time : arrivals(random, 100, 60, 0, 0)) {
      last = time;
      table.heartbeat(1, {at(time), 0});
    }
    table.sweep(at(last + 3000));
    ASSERT_EQ(table.find("a")->state, WorkerState::kReady) << "never before three are missed";
    table.sweep(at(last + 3500));
    ASSERT_EQ(table.find("a")->state, WorkerState::kUnreachable);
    table.sweep(at(last + 4999));
    ASSERT_EQ(table.find("a")->state, WorkerState::kUnreachable)
        << "never before the lease is over";
    table.sweep(at(last + 5500));
    ASSERT_EQ(table.find("a")->state, WorkerState::kLost);
  }
}

}  // namespace
}  // namespace longhaul

// One direction of one access link: a queue, a sender with a rate, a wire with a delay, and what
// can happen to a packet on it. Pure: a packet's size and time come in, its fate and the time it
// arrives go out. The router gives it the clock of the machine, the tests one of their own.
//
// In order: a packet that finds the queue full is dropped (tail drop). It is sent behind those
// before it; during an outage, and with probability `loss`, it is sent into the void (it took its
// share of the rate, as on a real wire). Then delay, plus or minus jitter, which keeps packets in
// order. With probability `reorder` it is held back by `reorder_by` and others overtake it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "tools/linkem/counter_random.h"
#include "tools/linkem/transmitter.h"
#include "tools/linkem/units.h"

namespace longhaul::linkem {

struct LinkQuality {
  double bits_per_second = std::numeric_limits<double>::infinity();
  nanoseconds delay{0};
  nanoseconds jitter{0};  // uniform in [-jitter, +jitter]
  double loss = 0;
  double reorder = 0;
  nanoseconds reorder_by{std::chrono::milliseconds(2)};
  QueueLimit queue{QueueLimit::Unit::kBytes, uint64_t{256} << 10};
};

// From `from` on, until the next one, the link is like this.
struct LinkPhase {
  nanoseconds from{0};
  LinkQuality quality;
};

struct Outage {
  nanoseconds from{0};
  nanoseconds length{0};
};

// The whole life of a link, known before it begins.
struct LinkPlan {
  std::vector<LinkPhase> phases = std::vector<LinkPhase>(1);  // in order, the first from 0
  std::vector<Outage> outages;
  std::shared_ptr<const MahimahiTrace> mahimahi;  // instead of the phases' rates
};

enum class Fate { kArrives, kQueueFull, kLost, kOutage };

struct LinkCounters {
  uint64_t packets = 0;  // offered to the link
  uint64_t bytes = 0;
  uint64_t delivered_packets = 0;  // decided to arrive; at the end some may still be under way
  uint64_t delivered_bytes = 0;
  uint64_t dropped_queue = 0;  // packets, as the next four
  uint64_t dropped_loss = 0;
  uint64_t dropped_outage = 0;
  uint64_t reordered = 0;
  uint64_t max_queue_packets = 0;
  uint64_t max_queue_bytes = 0;
};

class Link {
 public:
  // `number` sets this link's random numbers apart from those of the other links of the same seed.
  Link(LinkPlan plan, uint64_t seed, uint64_t number);

  struct Verdict {
    Fate fate;
    nanoseconds due;  // when it arrives; only with kArrives
  };

  // A packet comes to the link at `now`, which never goes back.
  Verdict offer(nanoseconds now, uint32_t bytes);

  const LinkCounters& counters() const { return counters_; }

 private:
  struct Waiting {
    nanoseconds departure;
    uint32_t bytes;
  };

  const LinkQuality& quality_at(nanoseconds time) const;
  bool in_outage(nanoseconds time) const;
  void forget_departed(nanoseconds now);
  bool queue_has_room(const QueueLimit& limit, uint32_t bytes) const;
  void enqueue(nanoseconds departure, uint32_t bytes);
  nanoseconds arrival(nanoseconds departure, const LinkQuality& quality, uint64_t packet);

  LinkPlan plan_;
  CounterRandom random_;
  std::unique_ptr<Transmitter> transmitter_;
  std::deque<Waiting> queue_;  // not yet departed, the one being sent too
  uint64_t queue_bytes_ = 0;
  nanoseconds last_arrival_{0};
  LinkCounters counters_;
};

}  // namespace longhaul::linkem

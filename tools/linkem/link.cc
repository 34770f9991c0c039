#include "tools/linkem/link.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace longhaul::linkem {
namespace {

// What a packet's random numbers are for.
enum Purpose : uint64_t { kLoss, kJitter, kReorder };

std::unique_ptr<Transmitter> transmitter_for(const LinkPlan& plan) {
  LONGHAUL_CHECK(!plan.phases.empty());
  if (plan.mahimahi != nullptr) return make_mahimahi_transmitter(*plan.mahimahi);
  std::vector<RateStep> steps;
  steps.reserve(plan.phases.size());
  for (const LinkPhase& phase : plan.phases) {
    steps.push_back({phase.from, phase.quality.bits_per_second});
  }
  return make_rate_transmitter(std::move(steps));
}

}  // namespace

Link::Link(LinkPlan plan, uint64_t seed, uint64_t number)
    : plan_(std::move(plan)), random_(seed, number), transmitter_(transmitter_for(plan_)) {}

Link::Verdict Link::offer(nanoseconds now, uint32_t bytes) {
  const uint64_t packet = counters_.packets++;
  counters_.bytes += bytes;
  forget_departed(now);
  if (!queue_has_room(quality_at(now).queue, bytes)) {
    ++counters_.dropped_queue;
    return {Fate::kQueueFull, {}};
  }
  const nanoseconds departure = transmitter_->transmit(now, bytes);
  enqueue(departure, bytes);
  if (in_outage(departure)) {
    ++counters_.dropped_outage;
    return {Fate::kOutage, {}};
  }
  const LinkQuality& quality = quality_at(departure);
  if (random_.uniform(packet, kLoss) < quality.loss) {
    ++counters_.dropped_loss;
    return {Fate::kLost, {}};
  }
  ++counters_.delivered_packets;
  counters_.delivered_bytes += bytes;
  return {Fate::kArrives, arrival(departure, quality, packet)};
}

const LinkQuality& Link::quality_at(nanoseconds time) const {
  const auto after = std::upper_bound(
      plan_.phases.begin() + 1, plan_.phases.end(), time,
      [](nanoseconds moment, const LinkPhase& phase) { return moment < phase.from; });
  return std::prev(after)->quality;
}

bool Link::in_outage(nanoseconds time) const {
  return std::any_of(plan_.outages.begin(), plan_.outages.end(), [&](const Outage& outage) {
    return time >= outage.from && time < outage.from + outage.length;
  });
}

void Link::forget_departed(nanoseconds now) {
  while (!queue_.empty() && queue_.front().departure <= now) {
    queue_bytes_ -= queue_.front().bytes;
    queue_.pop_front();
  }
}

// An idle link takes any packet, also one larger than its queue.
bool Link::queue_has_room(const QueueLimit& limit, uint32_t bytes) const {
  if (queue_.empty()) return true;
  return limit.unit == QueueLimit::Unit::kPackets ? queue_.size() < limit.count
                                                  : queue_bytes_ + bytes <= limit.count;
}

void Link::enqueue(nanoseconds departure, uint32_t bytes) {
  queue_.push_back({departure, bytes});
  queue_bytes_ += bytes;
  counters_.max_queue_packets = std::max<uint64_t>(counters_.max_queue_packets, queue_.size());
  counters_.max_queue_bytes = std::max(counters_.max_queue_bytes, queue_bytes_);
}

nanoseconds Link::arrival(nanoseconds departure, const LinkQuality& quality, uint64_t packet) {
  const double swing = 2 * random_.uniform(packet, kJitter) - 1;
  const nanoseconds jitter(
      static_cast<int64_t>(swing * static_cast<double>(quality.jitter.count())));
  const nanoseconds delay = std::max(nanoseconds(0), quality.delay + jitter);
  const nanoseconds due = std::max(last_arrival_, departure + delay);
  if (random_.uniform(packet, kReorder) < quality.reorder) {
    ++counters_.reordered;
    return due + quality.reorder_by;
  }
  last_arrival_ = due;
  return due;
}

}  // namespace longhaul::linkem

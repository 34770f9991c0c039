#include "tools/linkem/network.h"

#include "base/check.h"

namespace longhaul::linkem {

Network::Network(const std::vector<HostPlan>& hosts, uint64_t seed) {
  up_.reserve(hosts.size());
  down_.reserve(hosts.size());
  for (const HostPlan& host : hosts) {
    up_.emplace_back(host.up, seed, 2 * up_.size());
    down_.emplace_back(host.down, seed, 2 * down_.size() + 1);
  }
}

bool Network::send(nanoseconds now, const Packet& packet) {
  LONGHAUL_CHECK(packet.from < size());
  LONGHAUL_CHECK(packet.to < size());
  const Link::Verdict verdict = up_[packet.from].offer(now, packet.bytes);
  if (verdict.fate != Fate::kArrives) return false;
  push(verdict.due, packet, true);
  return true;
}

void Network::advance(nanoseconds now, std::vector<Outcome>* outcomes) {
  while (!events_.empty() && events_.top().due <= now) {
    const Event event = events_.top();
    events_.pop();
    if (!event.at_switch) {
      outcomes->push_back({event.packet, true, event.due});
      continue;
    }
    // At the time it came to the switch, not at the time somebody looked: lateness of the caller
    // does not add up.
    const Link::Verdict verdict = down_[event.packet.to].offer(event.due, event.packet.bytes);
    if (verdict.fate == Fate::kArrives) {
      push(verdict.due, event.packet, false);
    } else {
      outcomes->push_back({event.packet, false, event.due});
    }
  }
}

std::optional<nanoseconds> Network::next_due() const {
  if (events_.empty()) return std::nullopt;
  return events_.top().due;
}

void Network::push(nanoseconds due, const Packet& packet, bool at_switch) {
  events_.push({due, next_sequence_++, packet, at_switch});
}

}  // namespace longhaul::linkem

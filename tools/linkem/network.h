// N hosts, each joined to one switch by an up-link and a down-link. A packet crosses the sender's
// up-link and the receiver's down-link. Pure: packets and times in, packets and times out; the
// bytes themselves stay with the caller under a number.
//
// Thread safety: one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

#include "tools/linkem/link.h"

namespace longhaul::linkem {

struct HostPlan {
  LinkPlan up;
  LinkPlan down;
};

struct Packet {
  uint32_t id = 0;  // the caller's
  uint32_t bytes = 0;
  uint16_t from = 0;
  uint16_t to = 0;
};

// What became of a packet. Dropped ones are told too, so that the caller can free their bytes.
struct Outcome {
  Packet packet;
  bool delivered = false;
  nanoseconds due{0};  // when it arrives, if delivered
};

class Network {
 public:
  Network(const std::vector<HostPlan>& hosts, uint64_t seed);

  // Host packet.from sent it at `now`, which never goes back. False: dropped on the up-link.
  bool send(nanoseconds now, const Packet& packet);

  // Lets time run to `now` and appends what came to an end, in the order of arrival.
  void advance(nanoseconds now, std::vector<Outcome>* outcomes);

  // When advance() will next have something to do; nothing while no packet is on its way.
  std::optional<nanoseconds> next_due() const;

  size_t in_flight() const { return events_.size(); }
  size_t size() const { return up_.size(); }
  const LinkCounters& up(size_t host) const { return up_[host].counters(); }
  const LinkCounters& down(size_t host) const { return down_[host].counters(); }

 private:
  struct Event {
    nanoseconds due;
    uint64_t sequence;  // equal times: first come, first served
    Packet packet;
    bool at_switch;  // else at its receiver
    bool operator>(const Event& other) const {
      return due != other.due ? due > other.due : sequence > other.sequence;
    }
  };

  void push(nanoseconds due, const Packet& packet, bool at_switch);

  std::vector<Link> up_;
  std::vector<Link> down_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t next_sequence_ = 0;
};

}  // namespace longhaul::linkem

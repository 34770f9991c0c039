#include "control/master/feeds/input_relay.h"

#include <utility>
#include <vector>

namespace longhaul {

void InputRelay::wait(const LaunchId& launch, uint64_t offset, Answer answer, Instant now) {
  waiting_.emplace(launch, Waiting{offset, std::move(answer), now});
}

void InputRelay::taken(const LaunchId& launch, const v1::InputTaken& taken) {
  v1::WriteInputReply reply;
  reply.set_taken(taken.taken());
  reply.set_closed(taken.closed());
  // Whoever waits for this launch goes on from where its rank is now, whichever call the worker has
  // answered.
  const auto [begin, end] = waiting_.equal_range(launch);
  for (auto one = begin; one != end; ++one) one->second.answer(reply);
  waiting_.erase(begin, end);
}

void InputRelay::tick(Instant now) {
  std::erase_if(waiting_, [now](const auto& entry) {
    if (now < Instant::max() && now - entry.second.since < kPatience) return false;
    v1::WriteInputReply reply;
    reply.set_taken(entry.second.offset);
    entry.second.answer(reply);
    return true;
  });
}

}  // namespace longhaul

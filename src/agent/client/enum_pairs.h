// The one way in which an enumeration of ours becomes one of a message's and back: a list of pairs,
// so that neither has to follow the other's order or numbers.
//
//   constexpr EnumPairs kJobStates = {{{JobState::kPending, v1::JOB_STATE_PENDING}, ...}};
//   proto.set_state(kJobStates.to(job.state));
//   job.state = kJobStates.from(proto.state(), JobState::kPending);
#pragma once

#include <array>
#include <cstddef>
#include <utility>

namespace longhaul {

template <typename Ours, typename Theirs, size_t kCount>
struct EnumPairs {
  std::array<std::pair<Ours, Theirs>, kCount> pairs;

  // What is not in the list is the message's zero: unspecified.
  constexpr Theirs to(Ours value) const {
    for (const auto& [ours, theirs] : pairs) {
      if (ours == value) return theirs;
    }
    return Theirs{};
  }
  // One that we do not know, of a newer program, is `unknown`.
  constexpr Ours from(int value, Ours unknown) const {
    for (const auto& [ours, theirs] : pairs) {
      if (static_cast<int>(theirs) == value) return ours;
    }
    return unknown;
  }
  constexpr bool knows(int value) const {
    for (const auto& [ours, theirs] : pairs) {
      if (static_cast<int>(theirs) == value) return true;
    }
    return false;
  }
};

template <typename Ours, typename Theirs, typename... More>
EnumPairs(std::pair<Ours, Theirs>, More...) -> EnumPairs<Ours, Theirs, 1 + sizeof...(More)>;

}  // namespace longhaul

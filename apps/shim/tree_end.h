// When what a rank has started is to end. The rank is its first process; a shell script around a
// trainer, a `tee` behind its output, a helper in the background live on after it, and each is to
// have the time that it needs, and no more:
//
//   - the first process has ended by itself: the rest is left alone for the linger time, so that it
//     ends by itself too (after a failure for half a second at most, as others wait for the
//     verdict); then it gets SIGTERM, and SIGKILL after the grace;
//   - the rank was told to end (SIGTERM): whoever said so also says when the grace is over, for all
//     of the tree.
//
// A rank whose whole tree has ended waits for nothing.
//
// Pure: the caller reads the clock and sends the signals.
#pragma once

#include <algorithm>
#include <cstdint>

namespace longhaul {

class TreeEnd {
 public:
  // What is to be done to the rest now.
  enum class Step { kNothing, kTerminate, kKill };

  static constexpr int64_t kMaxLingerAfterFailureMs = 500;

  TreeEnd(int64_t linger_ms, int64_t grace_ms) : linger_ms_(linger_ms), grace_ms_(grace_ms) {}

  // The whole tree was told to end. Whoever did so, the worker, also says when the grace is over.
  void told_to_end() {
    told_ = true;
    next_ = Step::kNothing;
  }
  bool told() const { return told_; }
  // It has had its SIGTERM.
  bool terminated() const { return told_ || next_ == Step::kKill; }

  void first_process_ended(bool failed, int64_t now_ms) {
    if (told_) return;
    next_ = Step::kTerminate;
    lingered_ms_ = failed ? std::min(linger_ms_, kMaxLingerAfterFailureMs) : linger_ms_;
    at_ms_ = now_ms + lingered_ms_;
  }

  // Each step once, when its time has come.
  Step take(int64_t now_ms) {
    if (next_ == Step::kNothing || now_ms < at_ms_) return Step::kNothing;
    const Step due = next_;
    next_ = due == Step::kTerminate ? Step::kKill : Step::kNothing;
    at_ms_ = now_ms + grace_ms_;
    return due;
  }

  // -1: for as long as nothing else happens.
  int64_t wait_ms(int64_t now_ms) const {
    return next_ == Step::kNothing ? -1 : std::max<int64_t>(at_ms_ - now_ms, 0);
  }

  int64_t lingered_ms() const { return lingered_ms_; }
  int64_t grace_ms() const { return grace_ms_; }

 private:
  const int64_t linger_ms_;
  const int64_t grace_ms_;
  bool told_ = false;
  Step next_ = Step::kNothing;
  int64_t at_ms_ = 0;
  int64_t lingered_ms_ = 0;
};

}  // namespace longhaul

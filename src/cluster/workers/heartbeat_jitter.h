// How irregularly the heartbeats of one worker arrive, so that a bad link is given more time and a
// good one is not. The deviation is estimated like that of TCP's round-trip time (Jacobson 1988,
// RFC 6298), which Bertier, Marin and Sens (DSN 2002) use in a failure detector: it is an
// exponential mean of how far each gap is from the interval, and four times that is the margin.
// After a stall heartbeats come in a burst, whose short gaps count as irregular, too.
//
// Thread safety: none; a pure value.
#pragma once

#include <optional>

#include "longhaul/base/clock.h"

namespace longhaul {

class HeartbeatJitter {
 public:
  // `interval`: between heartbeats as they are sent. The first one after construction is only
  // noted.
  void arrived(Instant now, milliseconds interval);

  // The listener itself was away for `gap`: that is not the link's irregularity.
  void forgive(milliseconds gap);

  // What silence is granted beyond what is configured: 0 to `most`. Heartbeats that are never more
  // than d off their time make it at most 8 d (a gap has two ends).
  milliseconds margin(milliseconds most) const;

 private:
  std::optional<Instant> last_;
  double deviation_ms_ = 0;
};

}  // namespace longhaul

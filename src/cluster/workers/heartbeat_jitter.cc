#include "cluster/workers/heartbeat_jitter.h"

#include <algorithm>
#include <cmath>

namespace longhaul {
namespace {

constexpr double kGain = 1.0 / 8;  // a stall is half forgotten after five heartbeats
constexpr double kDeviations = 4;

}  // namespace

void HeartbeatJitter::arrived(Instant now, milliseconds interval) {
  if (last_) {
    const std::chrono::duration<double, std::milli> gap = now - *last_;
    const double off = std::abs(gap.count() - static_cast<double>(interval.count()));
    deviation_ms_ += kGain * (off - deviation_ms_);
  }
  last_ = now;
}

void HeartbeatJitter::forgive(milliseconds gap) {
  if (last_) *last_ += gap;
}

milliseconds HeartbeatJitter::margin(milliseconds most) const {
  const double wanted = kDeviations * deviation_ms_;
  return milliseconds(static_cast<int64_t>(std::min(wanted, static_cast<double>(most.count()))));
}

}  // namespace longhaul

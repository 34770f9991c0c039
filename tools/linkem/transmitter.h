// When the last bit of a packet leaves a link's sender: the part of the link model that knows
// rates. Pure: times come in and go out, in nanoseconds since the emulation began.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "longhaul/base/result.h"

namespace longhaul::linkem {

using std::chrono::nanoseconds;

class Transmitter {
 public:
  virtual ~Transmitter() = default;

  // Sends `bytes` behind everything sent before. `ready` is when the packet came; it never goes
  // back from call to call, and neither does the result, which is >= ready.
  virtual nanoseconds transmit(nanoseconds ready, uint32_t bytes) = 0;
};

// From `from` on, until the next step, the link sends at this rate; infinity is no limit.
struct RateStep {
  nanoseconds from{0};
  double bits_per_second = std::numeric_limits<double>::infinity();
};

// A link that sends at a rate, which may change over time, also in the middle of a packet. Exact: a
// busy link's departures are one serialization time apart, with no rounding that adds up.
// Precondition: steps in order, the first from 0.
std::unique_ptr<Transmitter> make_rate_transmitter(std::vector<RateStep> steps);

// A Mahimahi trace: each line of the file is a millisecond at which 1500 bytes may leave, and it
// starts again when the last line's millisecond is over. Several packets share an opportunity, a
// packet may take several, and one that finds nothing to send is lost.
// (Netravali et al.: "Mahimahi: Accurate Record-and-Replay for HTTP", USENIX ATC 2015)
struct MahimahiTrace {
  std::vector<uint64_t> milliseconds;  // never falls, ends above 0
};
// kInvalid names the line that cannot be read.
Result<MahimahiTrace> parse_mahimahi(std::string_view text);
std::unique_ptr<Transmitter> make_mahimahi_transmitter(MahimahiTrace trace);

}  // namespace longhaul::linkem

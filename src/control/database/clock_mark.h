// How long something has lasted, across restarts of the master: by the clock that counts from the
// host's start and that nobody sets. The database keeps moments of it, and with each batch where
// that clock stood and of which start of the host; wall clocks may step, they only label.
//
// A master that comes back on the same start of the host goes on counting. On another one, or on
// another host, nobody can tell how long that took without trusting a wall clock: that time is not
// counted.
//
// Thread safety: none needed; pure but for this_start().
#pragma once

#include <cstdint>

#include "longhaul/base/clock.h"

namespace longhaul {

// The names of MetaTable's rows where a mark is kept.
constexpr const char* kHostStart = "host_start";
constexpr const char* kHostMs = "host_ms";

struct ClockMark {
  int64_t host_start = 0;  // tells one start of the host from others; 0: not known
  int64_t ms = 0;          // where the clock stood
};

// Of the host as it runs now.
int64_t this_start();

inline int64_t to_ms(Instant moment) {
  return std::chrono::duration_cast<milliseconds>(moment.time_since_epoch()).count();
}
inline Instant from_ms(int64_t ms) {
  return Instant(milliseconds(ms));
}

// What must be added to moments that were kept until `last`. Then they are as long ago at `now` as
// they were at `last`, and longer by the time in between where that is known: on the same start of
// the host.
milliseconds clock_shift(const ClockMark& last, const ClockMark& now);

}  // namespace longhaul

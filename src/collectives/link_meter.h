// How fast this rank's links are, read off the traffic that is there anyway: no probes. The kernel
// counts for every TCP connection what was acknowledged, how long data was in flight, and the rate
// at which acknowledgements came in (TCP_INFO, tcp(7); Cheng and Cardwell, "Delivery rate
// estimation", draft-cheng-iccrg-delivery-rate-estimation).
//
// Thread safety: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace longhaul {

// What the kernel said of one connection.
struct ConnectionReading {
  uint64_t id = 0;           // the same connection, reading after reading
  uint64_t bytes_acked = 0;  // so far
  double busy_seconds = 0;   // with data in flight, so far
  double min_round_trip_seconds = 0;
  double delivery_bytes_per_second = 0;  // the last sample
};

// The reading of a TCP socket; nullopt for anything else.
std::optional<ConnectionReading> read_connection(int fd);

class LinkMeter {
 public:
  // `readings` of all connections to peers. Returns bytes per second that this rank can send to all
  // of them together; 0 as long as too little was sent to tell. `bursts`: how often since the last
  // call traffic began anew (steps): each costs a round trip in which little flows.
  double update(const std::vector<ConnectionReading>& readings, uint64_t bursts);

 private:
  std::map<uint64_t, ConnectionReading> last_;
  double estimate_ = 0;
};

}  // namespace longhaul

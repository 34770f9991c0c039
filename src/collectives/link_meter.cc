#include "collectives/link_meter.h"

#include <linux/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>

namespace longhaul {
namespace {

// Less than this says more about latency than about rate.
constexpr uint64_t kEnoughBytes = 64 << 10;
constexpr double kEnoughSeconds = 5e-3;
// Two witnesses that are further apart than this do not speak of the same thing.
constexpr double kAgreement = 10;
// IPPROTO_TCP; <netinet/in.h> and <linux/tcp.h> do not go together everywhere.
constexpr int kTcpLevel = 6;

}  // namespace

std::optional<ConnectionReading> read_connection(int fd) {
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (getsockopt(fd, kTcpLevel, TCP_INFO, &info, &length) != 0) return std::nullopt;
  // Kernels before 4.10 do not fill so much.
  if (length < offsetof(tcp_info, tcpi_rwnd_limited) + sizeof(info.tcpi_rwnd_limited))
    return std::nullopt;
  struct stat status{};
  if (fstat(fd, &status) != 0) return std::nullopt;
  ConnectionReading reading;
  reading.id = status.st_ino;
  reading.bytes_acked = info.tcpi_bytes_acked;
  // Without the receiver's pauses, in which it had no room for more.
  reading.busy_seconds = static_cast<double>(info.tcpi_busy_time - info.tcpi_rwnd_limited) / 1e6;
  reading.min_round_trip_seconds = info.tcpi_min_rtt == ~0U ? 0 : info.tcpi_min_rtt / 1e6;
  // A sample in which the sender ran out of data says how little was sent, and nothing of the link.
  if (info.tcpi_delivery_rate_app_limited == 0) {
    reading.delivery_bytes_per_second = static_cast<double>(info.tcpi_delivery_rate);
  }
  return reading;
}

// The connections share one link, so what counts is all their bytes over the time that the busiest
// of them was busy. That time holds a round trip per burst in which the link idled; taken off, but
// not more than three quarters, or a short burst over a far link would divide by nothing.
// Traffic that does not fill a link says nothing about it: it shows how long an acknowledgement was
// held back, or a processor was busy with something else. So the rate is known only where the
// kernel's samples, of which there are none then, agree; the link is at least as fast as the
// fastest connection saw it, and not faster than all of them together.
double LinkMeter::update(const std::vector<ConnectionReading>& readings, uint64_t bursts) {
  uint64_t bytes = 0;
  double busy = 0;
  double round_trip = 0;
  double fastest = 0;
  double together = 0;
  for (const ConnectionReading& reading : readings) {
    const ConnectionReading& before = last_[reading.id];
    bytes += reading.bytes_acked - before.bytes_acked;
    busy = std::max(busy, reading.busy_seconds - before.busy_seconds);
    round_trip = std::max(round_trip, reading.min_round_trip_seconds);
    fastest = std::max(fastest, reading.delivery_bytes_per_second);
    together += reading.delivery_bytes_per_second;
  }
  if (bytes < kEnoughBytes || busy < kEnoughSeconds) return estimate_;
  for (const ConnectionReading& reading : readings) last_[reading.id] = reading;
  const double flowing = std::max(busy - round_trip * static_cast<double>(bursts), busy / 4);
  const double rate = static_cast<double>(bytes) / flowing;
  const bool agree = rate * kAgreement >= fastest && rate <= kAgreement * together;
  if (agree) estimate_ = std::min(std::max(rate, fastest), together);
  return estimate_;
}

}  // namespace longhaul

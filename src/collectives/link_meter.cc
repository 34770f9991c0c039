#include "collectives/link_meter.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace longhaul {
namespace {

// Less than this says more about latency than about rate.
constexpr uint64_t kEnoughBytes = 64 << 10;
constexpr double kEnoughSeconds = 5e-3;
// A factor. Rates of two kinds that differ by more do not describe the same thing, see update().
constexpr double kAgreement = 10;
constexpr int kTcpLevel = IPPROTO_TCP;

// Between processes of one host: what such a connection carries depends on processors, and says
// nothing of a link.
bool stays_in_host(int fd) {
  sockaddr_storage own{};
  sockaddr_storage peer{};
  socklen_t own_bytes = sizeof(own);
  socklen_t peer_bytes = sizeof(peer);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_bytes) != 0 ||
      getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_bytes) != 0 ||
      own.ss_family != peer.ss_family) {
    return false;
  }
  if (own.ss_family == AF_INET) {
    const auto a = ntohl(reinterpret_cast<const sockaddr_in&>(own).sin_addr.s_addr);
    const auto b = ntohl(reinterpret_cast<const sockaddr_in&>(peer).sin_addr.s_addr);
    return a == b || (a >> 24 == IN_LOOPBACKNET && b >> 24 == IN_LOOPBACKNET);
  }
  return own.ss_family == AF_INET6 &&
         std::memcmp(&reinterpret_cast<const sockaddr_in6&>(own).sin6_addr,
                     &reinterpret_cast<const sockaddr_in6&>(peer).sin6_addr, sizeof(in6_addr)) == 0;
}

}  // namespace

std::optional<ConnectionReading> read_connection(int fd) {
  if (stays_in_host(fd)) return std::nullopt;
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (getsockopt(fd, kTcpLevel, TCP_INFO, &info, &length) != 0) return std::nullopt;
  // Kernels before 4.10 do not fill so much.
  if (length < offsetof(tcp_info, tcpi_rwnd_limited) + sizeof(info.tcpi_rwnd_limited))
    return std::nullopt;
  struct stat status{};
  if (fstat(fd, &status) != 0) return std::nullopt;
  ConnectionReading reading;
  // A socket's inode is its own as long as it lives; a descriptor's number is that of a copy.
  reading.id = status.st_ino;
  reading.bytes_acked = info.tcpi_bytes_acked;
  // Without the receiver's pauses, in which it had no room for more.
  reading.busy_seconds = static_cast<double>(info.tcpi_busy_time - info.tcpi_rwnd_limited) / 1e6;
  // Microseconds. All bits are set as long as there was no sample.
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
  // Too little is not thrown away: last_ stays, so it counts at the next call.
  if (bytes < kEnoughBytes || busy < kEnoughSeconds) return estimate_;
  for (const ConnectionReading& reading : readings) last_[reading.id] = reading;
  const double flowing = std::max(busy - round_trip * static_cast<double>(bursts), busy / 4);
  const double rate = static_cast<double>(bytes) / flowing;
  const bool agree = rate * kAgreement >= fastest && rate <= kAgreement * together;
  if (agree) estimate_ = std::min(std::max(rate, fastest), together);
  return estimate_;
}

}  // namespace longhaul

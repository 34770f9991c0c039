// Moves packets between the hosts' TUN devices as a Network says: the thin shell round the model.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/thread.h"
#include "base/unique_fd.h"
#include "longhaul/base/result.h"
#include "tools/linkem/network.h"
#include "tools/linkem/packet_store.h"

namespace longhaul::linkem {

struct RouterOptions {
  uint32_t mtu = 1500;
  // Ask the kernel for real-time scheduling of the router's thread, so that busy hosts on the same
  // machine do not make links late. Without the right to it the thread runs as any other.
  bool real_time = true;
};

// How late packets were handed over, against the model.
class Lateness {
 public:
  void add(nanoseconds late);
  uint64_t count() const { return count_; }
  double mean_us() const;
  double max_us() const { return static_cast<double>(max_.count()) / 1000; }
  // Below this many us were 99 % of them (a power of two).
  double p99_us() const;

 private:
  std::vector<uint64_t> by_log2_us_ = std::vector<uint64_t>(40);
  uint64_t count_ = 0;
  nanoseconds sum_{0};
  nanoseconds max_{0};
};

struct RouterReport {
  double seconds = 0;
  std::vector<LinkCounters> up;  // by host
  std::vector<LinkCounters> down;
  uint64_t unroutable = 0;  // to no host of ours, or no IPv4
  uint64_t refused = 0;     // by the receiver's device
  uint64_t in_flight = 0;   // on their way when the emulation ended
  bool real_time = false;
  Lateness lateness;
};

class Router {
 public:
  // `tuns`: one descriptor a host, which must stay open until stop().
  Router(const std::vector<HostPlan>& hosts, uint64_t seed, std::vector<int> tuns,
         const RouterOptions& options);
  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  // Starts the thread; the emulation's time 0 is now. kUnavailable: the kernel lacks something.
  Result<void> start();

  // Stops it (once) and says what it did.
  RouterReport stop();

 private:
  void run();
  nanoseconds now() const;
  bool read_batch(size_t host);
  void accept(size_t host, uint32_t id, uint32_t bytes);
  void deliver();
  void wait();
  void rest_if_due();

  const RouterOptions options_;
  const std::vector<int> tuns_;
  Network network_;
  PacketStore packets_;
  std::vector<Outcome> outcomes_;
  UniqueFd epoll_;
  UniqueFd wake_;
  std::atomic<bool> stopping_{false};
  int64_t start_ns_ = 0;
  nanoseconds rested_at_{0};
  RouterReport report_;
  Thread thread_;
};

}  // namespace longhaul::linkem

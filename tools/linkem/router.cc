#include "tools/linkem/router.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "longhaul/base/strings.h"
#include "tools/linkem/host_network.h"

namespace longhaul::linkem {
namespace {

// Packets due within this time of each other go out together: at high rates one wake-up serves
// many. A twentieth of what we promise for delays.
constexpr nanoseconds kTick{50'000};
// The kernel takes the core from a real-time thread for 50 ms of each second that it works through.
// A short rest after each stretch of work keeps that away.
constexpr nanoseconds kLongestWork{900'000};
constexpr nanoseconds kRest{60'000};
// From one device before the next has its turn.
constexpr int kBatch = 64;
constexpr uint32_t kIpv4Header = 20;

int64_t monotonic_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

bool become_real_time() {
  sched_param parameters{};
  parameters.sched_priority = 1;
  return ::sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameters) == 0;
}

}  // namespace

void Lateness::add(nanoseconds late) {
  ++count_;
  sum_ += late;
  max_ = std::max(max_, late);
  const auto us = static_cast<uint64_t>(std::max<int64_t>(0, late.count() / 1000));
  ++by_log2_us_[std::bit_width(us)];
}

double Lateness::mean_us() const {
  return count_ == 0 ? 0 : static_cast<double>(sum_.count()) / 1000 / static_cast<double>(count_);
}

double Lateness::p99_us() const {
  uint64_t below = 0;
  for (size_t i = 0; i < by_log2_us_.size(); ++i) {
    below += by_log2_us_[i];
    if (below * 100 >= count_ * 99) return count_ == 0 ? 0 : static_cast<double>(uint64_t{1} << i);
  }
  return max_us();
}

Router::Router(const std::vector<HostPlan>& hosts, uint64_t seed, std::vector<int> tuns,
               const RouterOptions& options)
    : options_(options), tuns_(std::move(tuns)), network_(hosts, seed), packets_(options.mtu) {}

Router::~Router() {
  stop();
}

Result<void> Router::start() {
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  std::vector<int> watched = tuns_;
  watched.push_back(wake_.get());
  for (size_t i = 0; i < watched.size(); ++i) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = i;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, watched[i], &event) != 0) {
      return Failure{ErrorKind::kInternal, str_cat("epoll_ctl: ", std::strerror(errno))};
    }
  }
  const timespec no_wait{};
  std::array<epoll_event, 1> event{};
  if (::epoll_pwait2(epoll_.get(), event.data(), 1, &no_wait, nullptr) < 0) {
    return Failure{ErrorKind::kUnavailable,
                   str_cat("Linux 5.11 or later is needed: epoll_pwait2: ", std::strerror(errno))};
  }
  start_ns_ = monotonic_ns();
  thread_ = Thread("lh-router", [this] { run(); });
  return {};
}

RouterReport Router::stop() {
  if (thread_.joinable()) {
    stopping_ = true;
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
    thread_.join();
    report_.seconds = static_cast<double>(monotonic_ns() - start_ns_) * 1e-9;
    for (size_t host = 0; host < network_.size(); ++host) {
      report_.up.push_back(network_.up(host));
      report_.down.push_back(network_.down(host));
    }
  }
  return report_;
}

void Router::run() {
  ::prctl(PR_SET_TIMERSLACK, 1);  // ns: wake up when asked to
  report_.real_time = options_.real_time && become_real_time();
  while (!stopping_) {
    bool more = false;
    for (size_t host = 0; host < tuns_.size(); ++host) more |= read_batch(host);
    deliver();
    if (!more) wait();
    rest_if_due();
  }
  // What hosts sent before they ended was sent, even if nobody is there to get it any more.
  for (size_t host = 0; host < tuns_.size(); ++host) {
    while (read_batch(host)) {
    }
  }
  report_.in_flight = network_.in_flight();
}

void Router::rest_if_due() {
  if (now() - rested_at_ < kLongestWork) return;
  const timespec rest{0, kRest.count()};
  ::nanosleep(&rest, nullptr);
  rested_at_ = now();
}

nanoseconds Router::now() const {
  return nanoseconds(monotonic_ns() - start_ns_);
}

// True when there may be more to read.
bool Router::read_batch(size_t host) {
  for (int i = 0; i < kBatch; ++i) {
    const uint32_t id = packets_.acquire();
    const MutableByteSpan room = packets_.bytes(id);
    const ssize_t bytes = ::read(tuns_[host], room.data(), room.size());
    if (bytes <= 0) {
      packets_.release(id);
      return false;
    }
    accept(host, id, static_cast<uint32_t>(bytes));
  }
  return true;
}

void Router::accept(size_t host, uint32_t id, uint32_t bytes) {
  const MutableByteSpan packet = packets_.bytes(id);
  const bool is_ipv4 = bytes >= kIpv4Header && packet[0] >> 4 == 4;
  const size_t to = is_ipv4 ? host_of_address(&packet[16]) : kMostHosts;
  if (to >= tuns_.size()) {
    ++report_.unroutable;
    packets_.release(id);
    return;
  }
  const Packet described{id, bytes, static_cast<uint16_t>(host), static_cast<uint16_t>(to)};
  if (!network_.send(now(), described)) packets_.release(id);
}

void Router::deliver() {
  outcomes_.clear();
  network_.advance(now(), &outcomes_);
  for (const Outcome& outcome : outcomes_) {
    if (outcome.delivered) {
      const ByteSpan bytes = packets_.bytes(outcome.packet.id).first(outcome.packet.bytes);
      if (::write(tuns_[outcome.packet.to], bytes.data(), bytes.size()) < 0) ++report_.refused;
      report_.lateness.add(now() - outcome.due);
    }
    packets_.release(outcome.packet.id);
  }
}

// Until a packet comes from a host, one is due to arrive, or stop() calls.
void Router::wait() {
  timespec timeout{};
  const std::optional<nanoseconds> due = network_.next_due();
  if (due) {
    const nanoseconds left = std::max(kTick, *due - now());
    timeout.tv_sec = left.count() / 1'000'000'000;
    timeout.tv_nsec = left.count() % 1'000'000'000;
  }
  const nanoseconds before = now();
  std::array<epoll_event, 16> events{};
  ::epoll_pwait2(epoll_.get(), events.data(), events.size(), due ? &timeout : nullptr, nullptr);
  if (now() - before >= kRest) rested_at_ = now();
}

}  // namespace longhaul::linkem

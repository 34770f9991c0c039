#include "tools/linkem/transmitter.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "longhaul/base/strings.h"

namespace longhaul::linkem {
namespace {

class RateTransmitter final : public Transmitter {
 public:
  explicit RateTransmitter(std::vector<RateStep> steps) : steps_(std::move(steps)) {}

  nanoseconds transmit(nanoseconds ready, uint32_t bytes) override {
    // Doubles hold fractions of a nanosecond for years of emulation: nothing drifts.
    double at = std::max(free_at_, static_cast<double>(ready.count()));
    double bits = 8.0 * bytes;
    for (;; ++step_) {
      const double end = end_of_step();
      if (at >= end) continue;
      const double bits_per_nanosecond = steps_[step_].bits_per_second * 1e-9;
      const double done = at + bits / bits_per_nanosecond;
      if (done <= end) {
        free_at_ = done;
        return nanoseconds(static_cast<int64_t>(std::ceil(done)));
      }
      bits -= (end - at) * bits_per_nanosecond;
      at = end;
    }
  }

 private:
  double end_of_step() const {
    return step_ + 1 < steps_.size() ? static_cast<double>(steps_[step_ + 1].from.count())
                                     : std::numeric_limits<double>::infinity();
  }

  const std::vector<RateStep> steps_;
  size_t step_ = 0;
  double free_at_ = 0;
};

class MahimahiTransmitter final : public Transmitter {
 public:
  explicit MahimahiTransmitter(MahimahiTrace trace) : times_(std::move(trace.milliseconds)) {}

  nanoseconds transmit(nanoseconds ready, uint32_t bytes) override {
    if (opportunity() < ready) skip_to(ready);
    while (bytes > left_) {
      bytes -= left_;
      next();
    }
    left_ -= bytes;
    return opportunity();
  }

 private:
  static constexpr uint32_t kOpportunityBytes = 1500;

  nanoseconds opportunity() const {
    return std::chrono::milliseconds(cycle_ * times_.back() + times_[index_]);
  }

  void next() {
    left_ = kOpportunityBytes;
    if (++index_ < times_.size()) return;
    index_ = 0;
    ++cycle_;
  }

  // To the first opportunity at or after `ready`; those between found nothing to send.
  void skip_to(nanoseconds ready) {
    const auto ready_ms = static_cast<uint64_t>((ready.count() + 999'999) / 1'000'000);
    cycle_ = ready_ms / times_.back();
    const auto first = std::lower_bound(times_.begin(), times_.end(), ready_ms % times_.back());
    index_ = static_cast<size_t>(first - times_.begin());
    left_ = kOpportunityBytes;
  }

  const std::vector<uint64_t> times_;
  uint64_t cycle_ = 0;
  size_t index_ = 0;
  uint32_t left_ = kOpportunityBytes;
};

}  // namespace

std::unique_ptr<Transmitter> make_rate_transmitter(std::vector<RateStep> steps) {
  return std::make_unique<RateTransmitter>(std::move(steps));
}

std::unique_ptr<Transmitter> make_mahimahi_transmitter(MahimahiTrace trace) {
  return std::make_unique<MahimahiTransmitter>(std::move(trace));
}

Result<MahimahiTrace> parse_mahimahi(std::string_view text) {
  constexpr uint64_t kLongest = uint64_t{1} << 40;  // keeps every time within 64 bits
  MahimahiTrace trace;
  size_t line_number = 0;
  for (const std::string& line : split(text, '\n')) {
    ++line_number;
    if (line.empty() || line == "\r") continue;
    uint64_t time = 0;
    const char* end = line.data() + line.size() - (line.back() == '\r' ? 1 : 0);
    const auto [stop, error] = std::from_chars(line.data(), end, time);
    if (error != std::errc() || stop != end || time > kLongest) {
      return Failure{ErrorKind::kInvalid, str_cat("line ", line_number, ": '", line.substr(0, 40),
                                                  "' is no time in whole milliseconds")};
    }
    if (!trace.milliseconds.empty() && time < trace.milliseconds.back()) {
      return Failure{ErrorKind::kInvalid,
                     str_cat("line ", line_number, ": ", time, " comes after ",
                             trace.milliseconds.back(), ": times must not fall")};
    }
    trace.milliseconds.push_back(time);
  }
  if (trace.milliseconds.empty() || trace.milliseconds.back() == 0) {
    return Failure{ErrorKind::kInvalid, "no packet time above 0 in it"};
  }
  return trace;
}

}  // namespace longhaul::linkem

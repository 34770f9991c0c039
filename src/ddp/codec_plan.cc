#include "ddp/codec_plan.h"

#include "longhaul/base/check.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Estimates are not better than this; below it a change is noise.
constexpr double kWorthAChange = 0.10;

std::string milliseconds_of(double seconds) {
  return str_cat(static_cast<int64_t>(seconds * 1e3 + 0.5), " ms");
}

std::string megabits(const LinkEstimate& link) {
  return str_cat(static_cast<int64_t>(link.bytes_per_second * 8 / 1e6), " Mbit/s");
}

}  // namespace

double bucket_seconds(const CodecCandidate& candidate, double bucket_bytes, int ranks,
                      const LinkEstimate& link) {
  if (ranks < 2) return 0;
  const double exchanged = ranks == 2 ? 1.0 : 2.0 * (ranks - 1) / ranks;
  return bucket_bytes *
         (exchanged / candidate.ratio / link.bytes_per_second +
          1 / candidate.encode_bytes_per_second + exchanged / candidate.decode_bytes_per_second);
}

CodecPlan plan_codec(std::span<const CodecCandidate> candidates, double bytes_per_step, int ranks,
                     const LinkEstimate& link, size_t current) {
  LONGHAUL_CHECK(current < candidates.size());
  if (link.bytes_per_second <= 0 || ranks < 2) {
    return {0, str_cat(candidates[0].spec.str(), ": no traffic seen yet")};
  }
  const auto seconds = [&](size_t index) {
    return bucket_seconds(candidates[index], bytes_per_step, ranks, link);
  };
  size_t best = 0;
  for (size_t i = 1; i < candidates.size(); ++i) {
    if (seconds(i) < seconds(best)) best = i;
  }
  const std::string link_text = str_cat(" at ", megabits(link), " a rank");
  if (best != current && seconds(best) > (1 - kWorthAChange) * seconds(current)) {
    return {current,
            str_cat(candidates[current].spec.str(), ": nothing is 10 % better", link_text)};
  }
  return {best, str_cat(candidates[best].spec.str(), ": ", milliseconds_of(seconds(best)),
                        " of exchange a step against ", milliseconds_of(seconds(0)), " of ",
                        candidates[0].spec.str(), link_text)};
}

}  // namespace longhaul

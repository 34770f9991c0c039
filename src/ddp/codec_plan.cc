#include "ddp/codec_plan.h"

#include "base/check.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Estimates are not better than this; below it a change is noise.
constexpr double kWorthAChange = 0.10;
// What nobody notices: so much of the exposed time, and of the time that the step computes.
constexpr double kOfExposed = 0.01;
constexpr double kOfCompute = 0.015;

std::string milliseconds_of(double seconds) {
  return str_cat(static_cast<int64_t>(seconds * 1e3 + 0.5), " ms");
}

std::string megabits(const LinkEstimate& link) {
  return str_cat(static_cast<int64_t>(link.bytes_per_second * 8 / 1e6), " Mbit/s");
}

// "rms:step=0.5 for 3 buckets, int8 for 1"
std::string describe(std::span<const CodecCandidate> candidates, const CodecPlan& plan,
                     size_t buckets) {
  std::vector<size_t> taken(candidates.size());
  for (size_t i = 0; i < buckets; ++i) ++taken[plan.choice(i)];
  std::vector<std::string> parts;
  for (size_t i = candidates.size(); i-- > 0;) {
    if (taken[i] == buckets) return candidates[i].spec.str();
    if (taken[i] == 0) continue;
    parts.push_back(str_cat(candidates[i].spec.str(), " for ", taken[i],
                            taken[i] == 1 ? " bucket" : " buckets"));
  }
  return join(parts, ", ");
}

double error_of(std::span<const CodecCandidate> candidates, std::span<const BucketDemand> buckets,
                const CodecPlan& plan) {
  double error = 0;
  for (size_t i = 0; i < buckets.size(); ++i) {
    error += candidates[plan.choice(i)].relative_error * buckets[i].bytes;
  }
  return error;
}

}  // namespace

// Encoding counts once for the whole bucket: a rank encodes its n-1 chunks for the others and the
// result of its own. What it decodes is as much as it receives.
double bucket_seconds(const CodecCandidate& candidate, double bucket_bytes, int ranks,
                      const LinkEstimate& link) {
  if (ranks < 2) return 0;
  const double exchanged = ranks == 2 ? 1.0 : 2.0 * (ranks - 1) / ranks;
  return bucket_bytes *
         (exchanged / candidate.ratio / link.bytes_per_second +
          1 / candidate.encode_bytes_per_second + exchanged / candidate.decode_bytes_per_second);
}

// Buckets are served one after the other: each begins when it is ready and the one before is
// through.
double exposed_seconds(std::span<const CodecCandidate> candidates,
                       std::span<const BucketDemand> buckets, const CodecPlan& plan, int ranks,
                       const LinkEstimate& link) {
  double done = 0;
  double computed = 0;
  for (size_t i = 0; i < buckets.size(); ++i) {
    done = std::max(done, buckets[i].ready_seconds) +
           bucket_seconds(candidates[plan.choice(i)], buckets[i].bytes, ranks, link);
    computed = std::max(computed, buckets[i].ready_seconds);
  }
  return std::max(done - computed, 0.0);
}

CodecPlan plan_codecs(std::span<const CodecCandidate> candidates, const StepDemand& step, int ranks,
                      const LinkEstimate& link, const CodecPlan& current) {
  LONGHAUL_CHECK(!candidates.empty());
  const std::span<const BucketDemand> buckets = step.buckets;
  if (link.bytes_per_second <= 0 || ranks < 2 || buckets.empty()) {
    return {{0}, str_cat(candidates[0].spec.str(), ": the rate of the link is unknown")};
  }
  const auto exposed = [&](const CodecPlan& plan) {
    return exposed_seconds(candidates, buckets, plan, ranks, link);
  };
  // The fastest for every bucket ...
  CodecPlan best;
  for (const BucketDemand& bucket : buckets) {
    const auto seconds = [&](const CodecCandidate& candidate) {
      return bucket_seconds(candidate, bucket.bytes, ranks, link);
    };
    const auto fastest =
        std::min_element(candidates.begin(), candidates.end(),
                         [&](const auto& a, const auto& b) { return seconds(a) < seconds(b); });
    best.choices.push_back(static_cast<size_t>(fastest - candidates.begin()));
  }
  // ... and then, first bucket first, the most exact with which the step still ends within
  // `allowed`. Early buckets come first because most of their time hides behind backward.
  const double unnoticed = kOfCompute * step.compute_seconds;
  const double allowed = exposed(best) * (1 + kOfExposed) + unnoticed;
  for (size_t& choice : best.choices) {
    const size_t fastest = choice;
    for (choice = 0; choice < fastest && exposed(best) > allowed; ++choice) {
    }
  }

  const std::string link_text = str_cat(" at ", megabits(link), " a rank");
  const double now = exposed(current);
  const double then = exposed(best);
  const bool faster = then < (1 - kWorthAChange) * now && now - then > unnoticed;
  const bool more_exact =
      then <= (1 + kOfExposed) * now + unnoticed &&
      error_of(candidates, buckets, best) < error_of(candidates, buckets, current);
  if (!faster && !more_exact) {
    best.choices = current.choices;
    best.reason =
        str_cat(describe(candidates, best, buckets.size()), ": nothing is 10 % better", link_text);
    return best;
  }
  best.reason =
      str_cat(describe(candidates, best, buckets.size()), ": ", milliseconds_of(then),
              " of exchange a step after the last gradient against ",
              milliseconds_of(exposed({{0}, ""})), " of ", candidates[0].spec.str(), link_text);
  return best;
}

}  // namespace longhaul

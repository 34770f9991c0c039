// Which codec each bucket should take, when the user left it to us (`auto`). Pure: every rank calls
// it with the same numbers (agreed over the wire, auto_codec.h), so all decide alike.
//
// What counts is the exposed time: how long after the last gradient the last bucket is there. A
// link serves buckets in the order in which backward makes them ready, and a bucket of S bytes over
// n ranks keeps it for
//   wire      S/ratio x 2(n-1)/n / rate    (two ranks: S/ratio / rate)
//   encoding  S / encode speed
//   decoding  S x 2(n-1)/n / decode speed
// So early buckets often hide behind backward whatever codec they take; those take the most exact
// one that still hides. Latency is left out: it is the same for all codecs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "longhaul/codec/codec_spec.h"

namespace longhaul {

// What real traffic has shown; no rate: nothing has been sent yet.
struct LinkEstimate {
  double bytes_per_second = 0;
};

struct CodecCandidate {
  CodecSpec spec;
  double ratio = 1;           // raw bytes / payload bytes
  double relative_error = 0;  // root mean square, of one encoding
  double encode_bytes_per_second = 0;
  double decode_bytes_per_second = 0;
};

// A bucket of one step, in the order of that step.
struct BucketDemand {
  double bytes = 0;
  double ready_seconds = 0;  // after the step's first bucket was
};

struct StepDemand {
  std::vector<BucketDemand> buckets;
  double compute_seconds = 0;  // of a whole step, without waiting for communication
};

struct CodecPlan {
  std::vector<size_t> choices;  // one per bucket, into the candidates; at least one
  std::string reason;           // for the log: what was chosen, and what it saves

  // Buckets beyond those planned for take what the last one takes.
  size_t choice(size_t bucket) const { return choices[std::min(bucket, choices.size() - 1)]; }
};

double bucket_seconds(const CodecCandidate& candidate, double bucket_bytes, int ranks,
                      const LinkEstimate& link);

// How long the step waits for its buckets after the last of them was ready.
double exposed_seconds(std::span<const CodecCandidate> candidates,
                       std::span<const BucketDemand> buckets, const CodecPlan& plan, int ranks,
                       const LinkEstimate& link);

// `candidates` are those that the error budget allows, the most exact first; `current` is in use.
// Without an estimate all take the first. Changes its mind only for a tenth less exposed time that
// a step would notice, or for more exactness at no cost.
CodecPlan plan_codecs(std::span<const CodecCandidate> candidates, const StepDemand& step, int ranks,
                      const LinkEstimate& link, const CodecPlan& current);

}  // namespace longhaul

// Which codec a bucket should take, when the user left it to us (`auto`). Pure: every rank calls it
// with the same numbers (an agreement made over the wire, codec_agreement.h), so all decide alike.
//
// The cost of a bucket of S bytes over n ranks is counted as
//   wire      S/ratio x 2(n-1)/n / rate    (two ranks: S/ratio / rate)
//   encoding  S / encode speed
//   decoding  S x 2(n-1)/n / decode speed
// Latency is left out: it is the same for all codecs.
#pragma once

#include <cstddef>
#include <span>
#include <string>

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

struct CodecPlan {
  size_t choice = 0;   // into the candidates
  std::string reason;  // for the log: "rms:step=0.5: 0.041 s a step against 0.38 s of none, at ..."
};

double bucket_seconds(const CodecCandidate& candidate, double bucket_bytes, int ranks,
                      const LinkEstimate& link);

// `candidates` are those that the error budget allows, the exact ones first; `current` is in use.
// Without an estimate: the first one. Changes its mind only for a gain worth the change.
CodecPlan plan_codec(std::span<const CodecCandidate> candidates, double bytes_per_step, int ranks,
                     const LinkEstimate& link, size_t current);

}  // namespace longhaul

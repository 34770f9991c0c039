// `codec=auto`: which codec each bucket takes, as links, codecs and the error budget need it.
//
// At the start every rank times the candidates on made-up gradients, and all agree on the slowest
// of each. If the links have carried enough by then (the broadcast of the parameters), the first
// step profits already; else it goes exact. Then links are measured in real traffic
// (Communicator::measure_links): in one step every rank starts an all-gather of its rate and of
// when its buckets were ready, and in the next, when it has long arrived, all plan with the
// smallest rate and the mean times. So all ranks change at the same bucket, and nobody waits.
// Measured again after 2, 4, 8 and then every 16 steps.
//
// Thread safety: one thread at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ddp/codec_plan.h"
#include "longhaul/base/clock.h"
#include "longhaul/collectives/communicator.h"

namespace c10d {
class ProcessGroup;
class Work;
}  // namespace c10d

namespace longhaul {

class AutoCodec {
 public:
  // Collective. `spec` is of kind kAuto.
  AutoCodec(std::shared_ptr<Communicator> communicator, const CodecSpec& spec);
  ~AutoCodec();

  std::vector<CodecSpec> specs() const;
  // Whether that is no codec at all: then a bucket has no use for frames and checksums either.
  bool is_raw(size_t codec) const { return candidates_[codec].spec.kind == CodecSpec::Kind::kNone; }
  // Which of specs() a bucket takes that is ready now. Every rank asks for the same buckets in the
  // same order. May throw CollectiveError.
  size_t choose(uint64_t step, uint64_t bucket_bytes, at::ScalarType type);

 private:
  struct Survey;

  StepDemand end_step(Instant now);
  void begin_step(StepDemand last);
  void plan();
  void adopt(const StepDemand& step, const LinkEstimate& link);

  const std::shared_ptr<Communicator> communicator_;
  const c10::intrusive_ptr<c10d::ProcessGroup> group_;
  std::vector<CodecCandidate> candidates_;
  CodecPlan plan_ = {{0}, ""};
  uint64_t step_ = 0;
  uint64_t steps_seen_ = 0;
  Instant step_began_;                 // its first bucket was ready
  double waited_before_ = 0;           // for communication, until then
  std::vector<BucketDemand> buckets_;  // of this step, so far
  uint64_t survey_at_ = 1;
  uint64_t interval_ = 2;
  uint64_t last_survey_ = 0;
  std::unique_ptr<Survey> survey_;  // under way
};

}  // namespace longhaul

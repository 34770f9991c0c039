#include "ddp/auto_codec.h"

#include <ATen/ATen.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <random>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "longhaul/base/strings.h"
#include "longhaul/codec/codec.h"

namespace longhaul {
namespace {

constexpr uint64_t kLongestInterval = 16;  // steps from one survey to the next
constexpr double kSlowLink = 1e9 / 8;      // bytes per second: 1 Gbit/s
constexpr size_t kSampleElements = size_t{256} << 10;
// Where errors are large, only the first leg's are: those of the second reach every rank alike, and
// cost far more of the loss (docs/benchmarks.md, learning).
constexpr const char* kCandidates[] = {"none",
                                       "lossless",
                                       "zstd",
                                       "bf16",
                                       "bf16:stage=rice",
                                       "int8",
                                       "int8:stage=rice",
                                       "rms:step=0.25",
                                       "rms:step=0.5",
                                       "rms:step=0.5,stage=huffman",
                                       "rms:step=1,result=0.5",
                                       "rms:step=1,result=0.5,stage=huffman",
                                       "rms:step=2,result=0.5",
                                       "rms:step=2,result=0.5,stage=huffman"};

// A codec whose legs differ. Bytes add up. Errors of the first leg are those of each rank and
// average out over ranks, as the noise of their batches does; those of the second are everybody's.
// Weighed so that two equal legs have the error of one encoding. Two ranks have no second leg.
CodecCandidate both_legs(const CodecSpec& spec, const CodecCandidate& first,
                         const CodecCandidate& second, int ranks) {
  CodecCandidate both = first;
  both.spec = spec;
  if (ranks == 2) return both;
  const double share = 1.0 / ranks;
  both.ratio = 2 / (1 / first.ratio + 1 / second.ratio);
  both.relative_error =
      std::sqrt((share * std::pow(first.relative_error, 2) + std::pow(second.relative_error, 2)) /
                (share + 1));
  return both;
}

// The same on every rank (a fixed seed): ratios and errors come of them, decide which candidates
// there are and in which order, and are not agreed upon over the wire as speeds are.
std::vector<float> made_up_gradients() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 1e-3F);
  std::vector<float> gradients(kSampleElements);
  for (float& gradient : gradients) gradient = normal(random);
  return gradients;
}

double seconds_of(const std::function<void()>& work) {
  const Instant start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The best of three, as the first one pays for cold memory. Decoding is timed as decode_add(),
// which is what the first leg does.
CodecCandidate time_codec(const CodecSpec& spec, const std::vector<float>& gradients) {
  const std::unique_ptr<Codec> codec = make_codec(spec);
  const ByteSpan elements{reinterpret_cast<const uint8_t*>(gradients.data()),
                          gradients.size() * sizeof(float)};
  std::vector<uint8_t> payload(codec->max_payload_bytes(ElementType::kFloat32, gradients.size()));
  std::vector<float> decoded(gradients.size());
  size_t payload_bytes = 0;
  double encode = 1e9;
  double decode = 1e9;
  for (int i = 0; i < 3; ++i) {
    encode = std::min(encode, seconds_of([&] {
                        payload_bytes = codec->encode(ElementType::kFloat32, elements, payload, {});
                      }));
    std::fill(decoded.begin(), decoded.end(), 0.0F);
    decode = std::min(decode, seconds_of([&] {
                        codec
                            ->decode_add(ElementType::kFloat32,
                                         ByteSpan(payload).first(payload_bytes), decoded, 1.0F)
                            .value_or_throw();
                      }));
  }
  double wrong = 0;
  double all = 0;
  for (size_t i = 0; i < gradients.size(); ++i) {
    wrong += std::pow(double{decoded[i]} - gradients[i], 2);
    all += std::pow(double{gradients[i]}, 2);
  }
  const auto bytes = static_cast<double>(elements.size());
  return {spec, bytes / static_cast<double>(payload_bytes), std::sqrt(wrong / all), bytes / encode,
          bytes / decode};
}

// As this rank measures them, in the order of kCandidates.
std::vector<CodecCandidate> time_candidates(int ranks) {
  const std::vector<float> gradients = made_up_gradients();
  std::vector<CodecCandidate> candidates;
  for (const char* name : kCandidates) {
    const CodecSpec spec = CodecSpec::parse(name).value_or_throw();
    CodecCandidate candidate = time_codec(spec, gradients);
    if (spec.result > 0) {
      candidate = both_legs(spec, candidate, time_codec(spec.second_leg(), gradients), ranks);
    }
    candidates.push_back(candidate);
  }
  return candidates;
}

// The most exact first, as plan_codecs() wants them. Those of equal error (the exact ones) stay in
// the order of kCandidates, so "none" is the first of all.
void keep_allowed(double allowed_error, std::vector<CodecCandidate>* candidates) {
  std::erase_if(*candidates, [allowed_error](const CodecCandidate& candidate) {
    return candidate.relative_error > allowed_error;
  });
  std::stable_sort(candidates->begin(), candidates->end(), [](const auto& a, const auto& b) {
    return a.relative_error < b.relative_error;
  });
}

std::vector<double> to_vector(const at::Tensor& numbers) {
  return {numbers.data_ptr<double>(), numbers.data_ptr<double>() + numbers.numel()};
}

}  // namespace

// Numbers that every rank says, and all of them see. All ranks must say as many. It is made in one
// step and read in a later one, so that nobody waits for it.
struct AutoCodec::Survey {
  Survey(c10d::ProcessGroup& group, const std::vector<double>& mine, StepDemand step_before = {})
      : step(std::move(step_before)), all(1), input{at::tensor(mine, at::kDouble)} {
    for (int rank = 0; rank < group.getSize(); ++rank) {
      all[0].push_back(at::empty_like(input[0]));
    }
    work = group.allgather(all, input);
  }
  // Each of these waits until all ranks have answered. All of them see the same numbers and get the
  // same result.

  // Of one number, leaving out those who do not know (0).
  double smallest_known(int64_t index) {
    double smallest = 0;
    work->wait();
    for (const at::Tensor& said : all[0]) {
      const double value = said[index].item<double>();
      if (value > 0 && (smallest == 0 || value < smallest)) smallest = value;
    }
    return smallest;
  }
  std::vector<double> smallest() {
    work->wait();
    return to_vector(std::get<0>(at::stack(all[0]).min(0)).contiguous());
  }
  std::vector<double> mean() {
    work->wait();
    return to_vector(at::stack(all[0]).mean(0).contiguous());
  }

  StepDemand step;
  std::vector<std::vector<at::Tensor>> all;
  std::vector<at::Tensor> input;
  c10::intrusive_ptr<c10d::Work> work;
};

AutoCodec::AutoCodec(std::shared_ptr<Communicator> communicator, const CodecSpec& spec)
    : communicator_(std::move(communicator)),
      group_(communicator_->new_process_group("auto-codec")),
      candidates_(time_candidates(communicator_->size())) {
  // What the links have carried so far is mostly the broadcast of the parameters, one burst.
  std::vector<double> mine = {communicator_->measure_links(1)};
  for (const CodecCandidate& candidate : candidates_) {
    mine.push_back(candidate.encode_bytes_per_second);
    mine.push_back(candidate.decode_bytes_per_second);
    mine.push_back(candidate.ratio);
    mine.push_back(-candidate.relative_error);
  }
  Survey survey(*group_, mine);
  // The slowest rank's speed counts, because all wait for it. All plan with the same numbers, also
  // with those that hosts hardly differ in (libraries of other versions): another plan would be
  // another codec for the same bucket.
  const std::vector<double> agreed = survey.smallest();
  for (size_t i = 0; i < candidates_.size(); ++i) {
    candidates_[i].encode_bytes_per_second = agreed[4 * i + 1];
    candidates_[i].decode_bytes_per_second = agreed[4 * i + 2];
    candidates_[i].ratio = agreed[4 * i + 3];
    candidates_[i].relative_error = -agreed[4 * i + 4];
  }
  keep_allowed(spec.error, &candidates_);
  // Neither buckets nor the time of a step are known yet. So only a slow link is a reason to begin
  // with an error; there the fastest codec is the same for every size of bucket, so one made-up
  // bucket will do.
  const double rate = survey.smallest_known(0);
  adopt({{{kSampleElements * sizeof(float), 0}}, 0}, {rate < kSlowLink ? rate : 0});
}

AutoCodec::~AutoCodec() = default;

std::vector<CodecSpec> AutoCodec::specs() const {
  std::vector<CodecSpec> specs;
  specs.reserve(candidates_.size());
  for (const CodecCandidate& candidate : candidates_) specs.push_back(candidate.spec);
  return specs;
}

size_t AutoCodec::choose(uint64_t step, uint64_t bucket_bytes, at::ScalarType type) {
  const Instant now = std::chrono::steady_clock::now();
  if (step != step_) {
    step_ = step;
    begin_step(end_step(now));
  }
  // Buckets are numbered by how many this step has had: every rank asks in the same order.
  const size_t choice = plan_.choice(buckets_.size());
  buckets_.push_back({static_cast<double>(bucket_bytes), seconds_between(step_began_, now)});
  // The one pair that does not go together; the first candidate takes everything.
  const bool half_as_bf16 =
      type == at::kHalf && candidates_[choice].spec.kind == CodecSpec::Kind::kBf16;
  return half_as_bf16 ? 0 : choice;
}

// The step before, as this rank saw it; the one that begins starts counting.
StepDemand AutoCodec::end_step(Instant now) {
  const double waited = communicator_->traffic().counts().wait_seconds;
  const double waited_in_step = waited - std::exchange(waited_before_, waited);
  const double seconds = seconds_between(std::exchange(step_began_, now), now);
  return {std::exchange(buckets_, {}), std::max(seconds - waited_in_step, 0.0)};
}

// Steps are counted alike on all ranks, so all start a survey in the same step and read it in the
// next. In between other buckets go over other groups; the survey has a group of its own.
void AutoCodec::begin_step(StepDemand last) {
  if (survey_) {
    plan();
    survey_.reset();
    survey_at_ = steps_seen_ + interval_;
    interval_ = std::min(2 * interval_, kLongestInterval);
  } else if (steps_seen_ >= survey_at_) {
    const uint64_t bursts = steps_seen_ - std::exchange(last_survey_, steps_seen_);
    std::vector<double> mine = {communicator_->measure_links(bursts), last.compute_seconds};
    for (const BucketDemand& bucket : last.buckets) mine.push_back(bucket.ready_seconds);
    survey_ = std::make_unique<Survey>(*group_, mine, std::move(last));
  }
  ++steps_seen_;
}

// Sizes of buckets are the same on all ranks; times are not, so their means are taken.
void AutoCodec::plan() {
  StepDemand step = std::move(survey_->step);
  const std::vector<double> mean = survey_->mean();
  step.compute_seconds = mean[1];
  for (size_t i = 0; i < step.buckets.size(); ++i) step.buckets[i].ready_seconds = mean[i + 2];
  adopt(step, {survey_->smallest_known(0)});
}

void AutoCodec::adopt(const StepDemand& step, const LinkEstimate& link) {
  CodecPlan planned = plan_codecs(candidates_, step, communicator_->size(), link, plan_);
  if (planned.choices != plan_.choices) {
    log(LogLevel::kInfo, "ddp", "codec auto from step ", step_, " on: ", planned.reason);
  }
  plan_ = std::move(planned);
  communicator_->traffic().set_codec(str_cat("auto, now ", plan_.reason));
}

}  // namespace longhaul

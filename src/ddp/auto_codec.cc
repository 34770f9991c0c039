#include "ddp/auto_codec.h"

#include <ATen/ATen.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <random>
#include <utility>

#include "longhaul/base/check.h"
#include "longhaul/base/log.h"
#include "longhaul/base/strings.h"
#include "longhaul/codec/codec.h"

namespace longhaul {
namespace {

constexpr uint64_t kLongestInterval = 16;
constexpr size_t kSampleElements = size_t{256} << 10;
// The exact ones first.
constexpr const char* kCandidates[] = {"none", "zstd",          "lossless",     "bf16",
                                       "int8", "rms:step=0.25", "rms:step=0.5", "rms:step=1"};

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

// The best of three, as the first one pays for cold memory.
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

std::vector<CodecCandidate> time_candidates(double allowed_error) {
  const std::vector<float> gradients = made_up_gradients();
  std::vector<CodecCandidate> candidates;
  for (const char* name : kCandidates) {
    const CodecCandidate candidate = time_codec(CodecSpec::parse(name).value_or_throw(), gradients);
    if (candidate.relative_error <= allowed_error) candidates.push_back(candidate);
  }
  return candidates;
}

}  // namespace

// What every rank says, and all of them see.
struct AutoCodec::Survey {
  Survey(c10d::ProcessGroup& group, const std::vector<double>& mine)
      : all(1), input{at::tensor(mine, at::kDouble)} {
    for (int rank = 0; rank < group.getSize(); ++rank) {
      all[0].push_back(at::empty_like(input[0]));
    }
    work = group.allgather(all, input);
  }
  // The smallest of each number, when all have answered.
  std::vector<double> smallest() {
    work->wait();
    const at::Tensor least = std::get<0>(at::stack(all[0]).min(0)).contiguous();
    return {least.data_ptr<double>(), least.data_ptr<double>() + least.numel()};
  }

  std::vector<std::vector<at::Tensor>> all;
  std::vector<at::Tensor> input;
  c10::intrusive_ptr<c10d::Work> work;
};

AutoCodec::AutoCodec(std::shared_ptr<Communicator> communicator, const CodecSpec& spec)
    : communicator_(std::move(communicator)),
      group_(communicator_->new_process_group("auto-codec")),
      candidates_(time_candidates(spec.error)) {
  std::vector<double> speeds;
  for (const CodecCandidate& candidate : candidates_) {
    speeds.push_back(candidate.encode_bytes_per_second);
    speeds.push_back(candidate.decode_bytes_per_second);
  }
  const std::vector<double> agreed = Survey(*group_, speeds).smallest();
  for (size_t i = 0; i < candidates_.size(); ++i) {
    candidates_[i].encode_bytes_per_second = agreed[2 * i];
    candidates_[i].decode_bytes_per_second = agreed[2 * i + 1];
  }
  plan();
}

AutoCodec::~AutoCodec() = default;

std::vector<CodecSpec> AutoCodec::specs() const {
  std::vector<CodecSpec> specs;
  specs.reserve(candidates_.size());
  for (const CodecCandidate& candidate : candidates_) specs.push_back(candidate.spec);
  return specs;
}

size_t AutoCodec::choose(uint64_t step, uint64_t bucket_bytes, at::ScalarType type) {
  if (step != step_) {
    step_ = step;
    bytes_per_step_ = std::exchange(bytes_this_step_, 0);
    begin_step();
  }
  bytes_this_step_ += bucket_bytes;
  // The one pair that does not go together; the first candidate takes everything.
  const bool half_as_bf16 =
      type == at::kHalf && candidates_[current_].spec.kind == CodecSpec::Kind::kBf16;
  return half_as_bf16 ? 0 : current_;
}

void AutoCodec::begin_step() {
  if (survey_) {
    plan();
    survey_.reset();
    survey_at_ = steps_seen_ + interval_;
    interval_ = std::min(2 * interval_, kLongestInterval);
  } else if (steps_seen_ >= survey_at_) {
    const uint64_t bursts = steps_seen_ - std::exchange(last_survey_, steps_seen_);
    survey_ = std::make_unique<Survey>(*group_,
                                       std::vector<double>{communicator_->measure_links(bursts)});
  }
  ++steps_seen_;
}

void AutoCodec::plan() {
  const LinkEstimate link{survey_ ? survey_->smallest()[0] : 0};
  const CodecPlan planned = plan_codec(candidates_, static_cast<double>(bytes_per_step_),
                                       communicator_->size(), link, current_);
  if (planned.choice != current_ || !survey_) {
    log(LogLevel::kInfo, "ddp", "codec auto from step ", step_, " on: ", planned.reason);
  }
  current_ = planned.choice;
  communicator_->traffic().set_codec(str_cat("auto, now ", planned.reason));
}

}  // namespace longhaul

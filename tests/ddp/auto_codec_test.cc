#include "ddp/auto_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "tests/support/cluster.h"

namespace longhaul {
namespace {

using ::longhaul::testing::expect_all_fine;
using ::longhaul::testing::RankContext;
using ::longhaul::testing::run_ranks;
using ::testing::HasSubstr;
using ::testing::Not;

// A real communicator whose links carry what the test says.
class ScriptedLinks final : public Communicator {
 public:
  explicit ScriptedLinks(std::shared_ptr<Communicator> real) : real_(std::move(real)) {}

  const CommunicatorOptions& options() const override { return real_->options(); }
  const c10::intrusive_ptr<c10d::ProcessGroup>& process_group() const override {
    return real_->process_group();
  }
  c10::intrusive_ptr<c10d::ProcessGroup> new_process_group(const std::string& name) override {
    return real_->new_process_group(name);
  }
  const c10::intrusive_ptr<c10d::Store>& store() const override { return real_->store(); }
  void begin_step(uint64_t step) override { real_->begin_step(step); }
  Rank suspect() const override { return real_->suspect(); }
  double measure_links(uint64_t) override {
    ++measured;
    return bytes_per_second;
  }
  Traffic& traffic() override { return real_->traffic(); }

  double bytes_per_second = 0;
  int measured = 0;

 private:
  const std::shared_ptr<Communicator> real_;
};

constexpr uint64_t kBucketBytes = 4 << 20;

constexpr int kBuckets = 2;

// What each rank took, by step and bucket.
struct Choices {
  std::mutex mutex;
  std::map<std::pair<uint64_t, int>, std::vector<std::string>> taken;

  void add(uint64_t step, int bucket, const std::string& spec) {
    const std::lock_guard lock(mutex);
    taken[{step, bucket}].push_back(spec);
  }
  // Of the last bucket, which nothing hides.
  std::string at(uint64_t step) { return taken[{step, kBuckets - 1}][0]; }
};

// `rate` says how fast the links of a rank are at a step.
void run_auto(
    const std::string& spec, uint64_t steps, const std::function<double(Rank, uint64_t)>& rate,
    Choices& choices, const std::function<void(ScriptedLinks&)>& at_end = [](ScriptedLinks&) {}) {
  expect_all_fine(run_ranks(3, [&](RankContext& context) {
    const auto links = std::make_shared<ScriptedLinks>(context.connect());
    AutoCodec codec(links, CodecSpec::parse(spec).value_or_throw());
    for (uint64_t step = 1; step <= steps; ++step) {
      links->bytes_per_second = rate(context.rank, step);
      for (int bucket = 0; bucket < kBuckets; ++bucket) {
        const size_t choice = codec.choose(step, kBucketBytes, at::kFloat);
        choices.add(step, bucket, codec.specs()[choice].str());
      }
    }
    at_end(*links);
  }));
}

void expect_agreement(const Choices& choices) {
  for (const auto& [place, specs] : choices.taken) {
    EXPECT_EQ(std::set(specs.begin(), specs.end()).size(), 1U)
        << "step " << place.first << ", bucket " << place.second << ": "
        << ::testing::PrintToString(specs);
  }
}

TEST(AutoCodecTest, StartsExactAndThenSavesASlowLink) {
  Choices choices;
  run_auto(
      "auto:error=0.15", 8, [](Rank, uint64_t) { return 25e6 / 8; }, choices,
      [](ScriptedLinks& links) {
        EXPECT_THAT(links.traffic().counts().codec, HasSubstr("auto, now rms:step=0.5"));
        EXPECT_THAT(links.traffic().counts().codec, HasSubstr("at 25 Mbit/s a rank"));
      });
  expect_agreement(choices);
  EXPECT_EQ(choices.at(1), "none");
  EXPECT_THAT(choices.at(8), HasSubstr("rms:step=0.5"));
}

TEST(AutoCodecTest, StaysExactWithoutTraffic) {
  Choices choices;
  run_auto("auto", 8, [](Rank, uint64_t) { return 0.0; }, choices);
  expect_agreement(choices);
  EXPECT_EQ(choices.at(8), "none");
}

TEST(AutoCodecTest, AnErrorOfNothingAllowsOnlyExactCodecs) {
  Choices choices;
  run_auto("auto:error=0", 8, [](Rank, uint64_t) { return 5e6 / 8; }, choices);
  expect_agreement(choices);
  EXPECT_THAT(choices.at(8), ::testing::AnyOf("lossless", "zstd"));
}

TEST(AutoCodecTest, TheSlowestRankCountsAndALinkThatChangesIsNoticed) {
  Choices choices;
  std::atomic<int> measured = 0;
  const auto rate = [](Rank rank, uint64_t step) {
    if (rank != 1) return 400e9 / 8;
    return step < 20 ? 400e9 / 8 : step < 60 ? 25e6 / 8 : 400e9 / 8;
  };
  run_auto("auto:error=0.15", 100, rate, choices,
           [&](ScriptedLinks& links) { measured += links.measured; });
  expect_agreement(choices);
  // Which of the fast ones pays over a fast link depends on the processor.
  EXPECT_THAT(choices.at(19), Not(HasSubstr("rms:step=0.5")));
  EXPECT_THAT(choices.at(59), HasSubstr("rms:step=0.5"));
  EXPECT_THAT(choices.at(100), Not(HasSubstr("rms:step=0.5")));
  EXPECT_GE(measured, 3 * 6);
}

}  // namespace
}  // namespace longhaul

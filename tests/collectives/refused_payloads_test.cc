// Bytes that must be refused. Rank 0 runs the real all-reduce; rank 1 speaks the same protocol by
// hand and sends what it should not. Rank 0 gets a typed error that names sender, step and bucket,
// keeps its memory, lives, and works on in its next world. The list: docs/wire.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <atomic>
#include <cstring>
#include <fstream>
#include <functional>
#include <latch>
#include <string>
#include <vector>

#include "collectives/bucket_layout.h"
#include "collectives/frame_exchange.h"
#include "collectives/watched_communicator.h"
#include "longhaul/base/strings.h"
#include "longhaul/codec/codec.h"
#include "longhaul/collectives/compressed_allreduce.h"
#include "tests/collectives/reference.h"
#include "tests/support/cluster.h"

namespace longhaul::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Bytes = std::vector<uint8_t>;

// What rank 0 expects when the forged frame comes.
constexpr uint64_t kStep = 9;
constexpr uint32_t kBucket = 2;
constexpr int64_t kCount = 5000;
// Where fields of frame and payload lie (docs/wire.md).
constexpr size_t kFrameVersionAt = 4;
constexpr size_t kFrameGenerationAt = 8;
constexpr size_t kFrameBodyBytesAt = 48;
constexpr size_t kPayloadCodecAt = 4;
constexpr size_t kPayloadCountAt = 8;
constexpr size_t kPayloadTileAt = 16;
constexpr size_t kPayloadDirectoryAt = 24;

ByteSpan bytes_of(const at::Tensor& tensor) {
  return {static_cast<const uint8_t*>(tensor.data_ptr()), static_cast<size_t>(tensor.nbytes())};
}

// Of other elements every time: what is left in memory must not complete what is cut short.
Bytes encode(const CodecSpec& spec, int64_t count) {
  static std::atomic<uint64_t> seed = 0;
  const std::unique_ptr<Codec> codec = make_codec(spec);
  const at::Tensor elements = gradient(seed++, count, at::kFloat);
  Bytes payload(codec->max_payload_bytes(ElementType::kFloat32, static_cast<size_t>(count)));
  payload.resize(codec->encode(ElementType::kFloat32, bytes_of(elements), payload, {}));
  return payload;
}

Bytes seal(const FrameLabel& label, const Bytes& payload) {
  Bytes frame(kFrameHeaderBytes);
  frame.insert(frame.end(), payload.begin(), payload.end());
  seal_frame(label, payload.size(), frame);
  return frame;
}

template <typename Number>
Bytes with(Bytes bytes, size_t at, Number value) {
  store(bytes.data() + at, value);
  return bytes;
}

Bytes first_bytes(Bytes bytes, size_t count) {
  bytes.resize(count);
  return bytes;
}

Bytes flipped(Bytes bytes, size_t at) {
  bytes[at] ^= 0x10;
  return bytes;
}

// A rank that knows the protocol and keeps to it only as far as a test wants.
class Adversary {
 public:
  Adversary(RankContext& context, const CodecSpec& spec)
      : spec_(spec),
        communicator_(context.connect()),
        group_(communicator_->new_process_group("compressed-all-reduce")),
        exchange_(group_, watch_of(*communicator_)) {
    agree_on_codec();
  }

  const CodecSpec& spec() const { return spec_; }
  // Of the frame that an honest rank of two would send.
  FrameLabel label(uint64_t step, uint32_t bucket) const {
    FrameLabel honest;
    honest.sender = communicator_->rank();
    honest.generation = communicator_->options().generation;
    honest.step = step;
    honest.bucket = bucket;
    honest.chunk = 1;
    honest.codec = static_cast<uint8_t>(spec_.kind);
    honest.element_count = kCount;
    return honest;
  }
  Bytes payload() const { return encode(spec_, kCount); }
  Bytes honest_frame(uint64_t step, uint32_t bucket) const {
    return seal(label(step, bucket), payload());
  }

  // Takes part in the next operation with these bytes, whatever they are.
  void exchange(uint64_t operation, const Bytes& frame) {
    exchange_.begin(operation);
    exchange_.post_receive(0, 0, BucketLayout::kPieceBytes);
    send(0, 0, frame);
  }
  void send(int leg, Rank to, const Bytes& frame) {
    const MutableByteSpan out = exchange_.outgoing(leg, to, frame.size());
    std::memcpy(out.data(), frame.data(), frame.size());
    exchange_.send(leg, to, to, frame.size());
  }
  void finish() { exchange_.finish(); }
  FrameExchange& lanes() { return exchange_; }

 private:
  // As the constructor of a CompressedAllreduce does.
  void agree_on_codec() {
    const std::string name = spec_.str();
    at::Tensor mine = at::zeros({1024}, at::kByte);
    std::memcpy(mine.data_ptr(), name.data(), name.size());
    std::vector<std::vector<at::Tensor>> all(1);
    for (Rank rank = 0; rank < communicator_->size(); ++rank) {
      all[0].push_back(at::zeros_like(mine));
    }
    std::vector<at::Tensor> input{mine};
    group_->allgather(all, input)->wait();
  }

  const CodecSpec spec_;
  const std::shared_ptr<Communicator> communicator_;
  const c10::intrusive_ptr<c10d::ProcessGroup> group_;
  FrameExchange exchange_;
};

struct Attack {
  std::string name;
  ErrorKind kind;
  std::string says;  // in the error, besides sender, step and bucket
  std::function<Bytes(const Adversary&)> forge;
  std::string codec = "zstd";
};
void PrintTo(const Attack& attack, std::ostream* out) {
  *out << attack.name;
}

// The frame that comes next, changed as it lies there.
std::function<Bytes(const Adversary&)> frame_that(const std::function<Bytes(Bytes)>& change) {
  return [change](const Adversary& rank) { return change(rank.honest_frame(kStep, kBucket)); };
}

// The right payload under a label that says something else.
std::function<Bytes(const Adversary&)> label_that(const std::function<void(FrameLabel&)>& change) {
  return [change](const Adversary& rank) {
    FrameLabel label = rank.label(kStep, kBucket);
    change(label);
    return seal(label, rank.payload());
  };
}

// The right label and a right checksum over a payload that is not what it should be.
std::function<Bytes(const Adversary&)> payload_that(const std::function<Bytes(Bytes)>& change) {
  return [change](const Adversary& rank) {
    return seal(rank.label(kStep, kBucket), change(rank.payload()));
  };
}

std::vector<Attack> attacks_on_the_frame() {
  constexpr ErrorKind kCorrupt = ErrorKind::kCorrupt;
  return {
      {"FrameWithoutABody", kCorrupt, "wrong checksum",
       frame_that([](const Bytes& frame) { return first_bytes(frame, kFrameHeaderBytes); })},
      {"FrameCutInItsBody", kCorrupt, "wrong checksum",
       frame_that([](const Bytes& frame) { return first_bytes(frame, frame.size() - 100); })},
      {"FrameCutInItsHeader", kCorrupt, "wrong checksum over 0 bytes",
       frame_that([](const Bytes& frame) { return first_bytes(frame, 40); })},
      {"FrameOfTwoBytes", kCorrupt, "magic number",
       frame_that([](const Bytes& frame) { return first_bytes(frame, 2); })},
      {"NoFrame", kCorrupt, "magic number",
       [](const Adversary&) { return Bytes(3000, uint8_t{0xA5}); }},
      {"FlippedHeader", kCorrupt, "wrong checksum",
       frame_that([](const Bytes& frame) { return flipped(frame, kFrameGenerationAt); })},
      {"FlippedBody", kCorrupt, "wrong checksum",
       frame_that([](const Bytes& frame) { return flipped(frame, frame.size() / 2); })},
      {"FrameVersion", kCorrupt, "format version 2, this program reads 1",
       frame_that([](const Bytes& frame) { return with(frame, kFrameVersionAt, uint8_t{2}); })},
      {"BodyLongerThanReceived", kCorrupt, "declares a body of 1099511627776 bytes",
       frame_that(
           [](const Bytes& frame) { return with(frame, kFrameBodyBytesAt, uint64_t{1} << 40); })},
  };
}

std::vector<Attack> attacks_on_the_label() {
  constexpr ErrorKind kCorrupt = ErrorKind::kCorrupt;
  return {
      {"EarlierStep", kCorrupt, "it calls itself rank 1, generation 1, step 8, bucket 1",
       [](const Adversary& rank) { return rank.honest_frame(kStep - 1, kBucket - 1); }},
      {"OtherBucket", kCorrupt, "step 9, bucket 3, chunk 1, leg 0, codec 1",
       label_that([](FrameLabel& label) { label.bucket = kBucket + 1; })},
      {"OldGeneration", ErrorKind::kStale, "it is of generation 0, which is over",
       label_that([](FrameLabel& label) { label.generation = 0; })},
      {"LaterGeneration", kCorrupt, "it calls itself rank 1, generation 2",
       label_that([](FrameLabel& label) { label.generation = 2; })},
      {"OtherSender", kCorrupt, "it calls itself rank 0",
       label_that([](FrameLabel& label) { label.sender = 0; })},
      {"OtherChunk", kCorrupt, "chunk 7, leg 0, codec",
       label_that([](FrameLabel& label) { label.chunk = 7; })},
      {"OtherLeg", kCorrupt, "chunk 1, leg 1, codec",
       label_that([](FrameLabel& label) { label.leg = 1; })},
      {"OtherCodec", kCorrupt, "codec 2, element type 0, 5000 elements; expected codec 1",
       label_that([](FrameLabel& label) { label.codec = 2; })},
      {"OtherElementType", kCorrupt, "element type 1, 5000 elements; expected",
       label_that([](FrameLabel& label) { label.element_type = 1; })},
      {"OtherElementCount", kCorrupt, "5001 elements; expected codec 1, element type 0, 5000",
       label_that([](FrameLabel& label) { label.element_count = kCount + 1; })},
      {"LargerBucket", kCorrupt, "400000 elements; expected",
       [](const Adversary& rank) {
         FrameLabel label = rank.label(kStep, kBucket);
         label.element_count = 400000;
         return seal(label, encode(rank.spec(), 400000));
       }},
  };
}

std::vector<Attack> attacks_on_the_payload() {
  constexpr ErrorKind kCorrupt = ErrorKind::kCorrupt;
  std::vector<Attack> attacks;
  for (const std::string codec : {"zstd", "lossless", "bf16", "int8", "rms"}) {
    const std::string expected = ", expected 5000 x fp32";
    const auto add = [&](const std::string& name, const std::string& says,
                         const std::function<Bytes(Bytes)>& change) {
      attacks.push_back({str_cat(name, "_", codec), kCorrupt, says, payload_that(change), codec});
    };
    add("PayloadWithoutBytes", "payload of rank 1: payload: 0 bytes",
        [](const Bytes&) { return Bytes(); });
    add("PayloadCut", " bytes, its directory speaks of",
        [](const Bytes& payload) { return first_bytes(payload, payload.size() - 1); });
    add("PayloadWithBytesLeftOver", "bytes, its directory speaks of",
        [](const Bytes& payload) { return first_bytes(payload, payload.size() + 100000); });
    add("PayloadVersion", "it does not start with the format's magic number",
        [](const Bytes& payload) { return with(payload, 3, uint8_t{'2'}); });
    add("PayloadOfOtherCodec", "made by codec none, expected",
        [](const Bytes& payload) { return with(payload, kPayloadCodecAt, uint8_t{0}); });
    add("FourGigabytes", str_cat("made of 1073741824 x fp32", expected),
        [](const Bytes& payload) { return with(payload, kPayloadCountAt, uint64_t{1} << 30); });
    add("MoreThanAnyMemory", str_cat("made of 2305843009213693952 x fp32", expected),
        [](const Bytes& payload) { return with(payload, kPayloadCountAt, uint64_t{1} << 61); });
    add("GiantTiles", "made in tiles of 4294967295",
        [](const Bytes& payload) { return with(payload, kPayloadTileAt, uint32_t{0xFFFFFFFF}); });
    add("GiantTileStored", "its directory speaks of", [](const Bytes& payload) {
      return with(payload, kPayloadDirectoryAt, uint32_t{0xFFFFFFFF});
    });
  }
  attacks.push_back(
      {"PayloadSize_none", kCorrupt, "payload of rank 1",
       payload_that([](const Bytes& payload) { return first_bytes(payload, payload.size() - 4); }),
       "none"});
  return attacks;
}

std::string name_of_attack(const ::testing::TestParamInfo<Attack>& info) {
  return info.param.name;
}

class RefusedTest : public ::testing::TestWithParam<Attack> {};
INSTANTIATE_TEST_SUITE_P(Frame, RefusedTest, ::testing::ValuesIn(attacks_on_the_frame()),
                         name_of_attack);
INSTANTIATE_TEST_SUITE_P(Label, RefusedTest, ::testing::ValuesIn(attacks_on_the_label()),
                         name_of_attack);
INSTANTIATE_TEST_SUITE_P(Payload, RefusedTest, ::testing::ValuesIn(attacks_on_the_payload()),
                         name_of_attack);

uint64_t peak_address_space_kib() {
  std::ifstream status("/proc/self/status");
  std::string word;
  uint64_t kib = 0;
  while (status >> word) {
    if (word == "VmPeak:") status >> kib;
  }
  return kib;
}

// Says "done" on every way out, so that the adversary can go without being missed.
struct Done {
  std::latch& latch;
  ~Done() { latch.count_down(); }
};

at::Tensor reduce(CompressedAllreduce& allreduce, uint64_t step, uint32_t bucket, int64_t count) {
  at::Tensor tensor = gradient(7, count, at::kFloat);
  allreduce.start(tensor, 1.0, step, bucket)->waitAndThrow();
  return tensor;
}

void expect_refused(CompressedAllreduce& allreduce, int64_t count, ErrorKind kind,
                    const std::string& says) {
  try {
    reduce(allreduce, kStep, kBucket, count);
    ADD_FAILURE() << "it was taken";
  } catch (const CollectiveError& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_EQ(error.peer(), 1) << error.what();
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("bucket 2 of step 9"), HasSubstr("rank 1"), HasSubstr(says)));
  }
}

// The process has seen a world fail; its next one is as good as new.
void expect_the_next_world_works(RankContext& context, const CodecSpec& spec) {
  context.options.generation += 1;
  CompressedAllreduce allreduce(context.connect(), {spec});
  const at::Tensor sum = reduce(allreduce, 1, 0, 3000);
  const at::Tensor one = gradient(7, 3000, at::kFloat);
  const std::vector<at::Tensor> inputs(static_cast<size_t>(context.size), one);
  const at::Tensor wanted = reference_sum(inputs, 1.0);
  EXPECT_LT(((sum - wanted).norm() / wanted.norm()).item<double>(), spec.lossless() ? 1e-9 : 0.2);
}

TEST_P(RefusedTest, NamesSenderStepAndBucketAndKillsNobody) {
  const Attack& attack = GetParam();
  const CodecSpec spec = *CodecSpec::parse(attack.codec);
  std::latch done(1);
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    if (context.rank == 1) {
      Adversary adversary(context, spec);
      adversary.exchange(0, adversary.honest_frame(kStep - 1, kBucket - 1));
      adversary.lanes().receive(0, 0, [&] {
        FrameLabel from = adversary.label(kStep - 1, kBucket - 1);
        from.sender = 0;
        from.chunk = 0;
        return from;
      }());
      adversary.finish();
      adversary.exchange(1, attack.forge(adversary));
      done.wait();
    } else {
      const Done at_end{done};
      CompressedAllreduce allreduce(context.connect(), {spec});
      reduce(allreduce, kStep - 1, kBucket - 1, kCount);
      const uint64_t before = peak_address_space_kib();
      expect_refused(allreduce, kCount, attack.kind, attack.says);
      EXPECT_LT(peak_address_space_kib() - before, 512U << 10) << "KiB more of address space";
    }
    expect_the_next_world_works(context, spec);
  }));
}

// The second leg: what an owner says the sum is. Both others refuse it.
class RefusedResultTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Results, RefusedResultTest,
                         ::testing::Values<std::string>("flipped", "lying", "replayed"),
                         [](const auto& info) { return info.param; });

TEST_P(RefusedResultTest, AnOwnersForgedResultIsRefusedByAllOthers) {
  constexpr int64_t kLargeCount = 30000;  // two rounds
  const CodecSpec spec = CodecSpec::of(CodecSpec::Kind::kZstd);
  std::latch done(2);
  expect_all_fine(run_ranks(3, [&](RankContext& context) {
    if (context.rank != 1) {
      const Done at_end{done};
      CompressedAllreduce allreduce(context.connect(), {spec});
      expect_refused(allreduce, kLargeCount, ErrorKind::kCorrupt, "");
      return;
    }
    Adversary adversary(context, spec);
    adversary.lanes().begin(0);
    for (const Rank peer : {0, 2}) {
      adversary.lanes().post_receive(0, peer, kLargeCount * 4);
      adversary.lanes().post_receive(1, peer, kLargeCount * 4);
    }
    FrameLabel label = adversary.label(kStep, kBucket);
    label.element_count = kLargeCount / 3;
    for (const Rank peer : {0, 2}) {
      label.chunk = static_cast<uint32_t>(peer);
      adversary.send(0, peer, seal(label, encode(spec, kLargeCount / 3)));
    }
    label.chunk = 1;
    label.leg = 1;
    if (GetParam() == "replayed") label.step -= 1;
    Bytes result = encode(spec, kLargeCount / 3);
    if (GetParam() == "lying") store(result.data() + kPayloadCountAt, uint64_t{1} << 61);
    result = seal(label, result);
    if (GetParam() == "flipped") result = flipped(result, 5000);
    try {
      for (const Rank peer : {0, 2}) adversary.send(1, peer, result);
    } catch (const CollectiveError&) {
      // The first of them has already refused it, and told everybody.
    }
    done.wait();
  }));
}

}  // namespace
}  // namespace longhaul::testing

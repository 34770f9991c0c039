#include "wire/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "base/check.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;

const FrameLabel kLabel{.sender = 2,
                        .generation = 5,
                        .step = 17,
                        .bucket = 3,
                        .chunk = 1,
                        .leg = 1,
                        .codec = 1,
                        .element_type = 2,
                        .element_count = 900};

std::vector<uint8_t> make_body(size_t bytes) {
  std::vector<uint8_t> body(bytes);
  std::iota(body.begin(), body.end(), uint8_t{1});
  return body;
}

std::vector<uint8_t> make_frame(const FrameLabel& label, const std::vector<uint8_t>& body) {
  std::vector<uint8_t> frame(kFrameHeaderBytes + body.size());
  std::copy(body.begin(), body.end(), frame.begin() + kFrameHeaderBytes);
  EXPECT_EQ(seal_frame(label, body.size(), frame), frame.size());
  return frame;
}

// Opens a bad frame: the kind of the error, after checking that it names whom to blame.
ErrorKind refusal(const FrameLabel& expected, ByteSpan frame) {
  const Result<ByteSpan> body = open_frame(expected, frame);
  EXPECT_FALSE(body);
  if (body) return ErrorKind::kInternal;
  EXPECT_THAT(body.failure().message, HasSubstr("rank 2"));
  EXPECT_THAT(body.failure().message, HasSubstr("step 17"));
  EXPECT_THAT(body.failure().message, HasSubstr("bucket 3"));
  return body.failure().kind;
}

TEST(FrameTest, TheBodyComesBackWithoutACopy) {
  for (const size_t bytes : {0, 1, 2, 63, 64, 65, 240, 241, 1000, 100'003}) {
    const std::vector<uint8_t> body = make_body(bytes);
    const std::vector<uint8_t> frame = make_frame(kLabel, body);
    const Result<ByteSpan> opened = open_frame(kLabel, frame);
    ASSERT_TRUE(opened) << opened.failure().message;
    EXPECT_EQ(opened->data(), frame.data() + kFrameHeaderBytes);
    EXPECT_TRUE(std::equal(opened->begin(), opened->end(), body.begin(), body.end()));
  }
}

TEST(FrameTest, AReceiveBufferMayBeLongerThanTheFrame) {
  std::vector<uint8_t> frame = make_frame(kLabel, make_body(10));
  frame.resize(frame.size() + 100, 0xFF);
  ASSERT_TRUE(open_frame(kLabel, frame));
  EXPECT_EQ(open_frame(kLabel, frame)->size(), 10U);
}

TEST(FrameTest, EveryFlippedBitIsCaught) {
  const std::vector<uint8_t> frame = make_frame(kLabel, make_body(50));
  for (size_t i = 0; i < frame.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::vector<uint8_t> damaged = frame;
      damaged[i] ^= static_cast<uint8_t>(1U << bit);
      EXPECT_EQ(refusal(kLabel, damaged), ErrorKind::kCorrupt) << "byte " << i << ", bit " << bit;
    }
  }
}

TEST(FrameTest, ACutTailIsCaughtAtEveryLength) {
  std::vector<uint8_t> frame = make_frame(kLabel, make_body(50));
  while (!frame.empty()) {
    frame.pop_back();
    EXPECT_EQ(refusal(kLabel, frame), ErrorKind::kCorrupt) << frame.size() << " bytes";
  }
}

TEST(FrameTest, AnOlderGenerationIsStaleNotCorrupt) {
  FrameLabel old = kLabel;
  old.generation = 4;
  old.step = 16;  // what else differs does not matter any more
  EXPECT_EQ(refusal(kLabel, make_frame(old, make_body(8))), ErrorKind::kStale);
}

TEST(FrameTest, AWholeFrameWithAnyOtherLabelIsRefused) {
  std::vector<FrameLabel> others(9, kLabel);
  others[0].sender = 3;
  others[1].generation = 6;
  others[2].step = 16;
  others[3].bucket = 4;
  others[4].chunk = 2;
  others[5].leg = 0;
  others[6].codec = 0;
  others[7].element_type = 0;
  others[8].element_count = 901;
  for (const FrameLabel& other : others) {
    EXPECT_EQ(refusal(kLabel, make_frame(other, make_body(8))), ErrorKind::kCorrupt) << other.str();
  }
}

TEST(FrameTest, ARefusedLabelIsShownBesideTheExpectedOne) {
  FrameLabel other = kLabel;
  other.sender = 6;
  other.element_count = 901;
  const Result<ByteSpan> body = open_frame(kLabel, make_frame(other, {}));
  ASSERT_FALSE(body);
  EXPECT_THAT(body.failure().message,
              HasSubstr("frame from rank 2, generation 5, step 17, bucket 3, chunk 1, leg 1"));
  EXPECT_THAT(body.failure().message, HasSubstr("it calls itself rank 6"));
  EXPECT_THAT(body.failure().message, HasSubstr("901 elements"));
}

TEST(FrameTest, ADeclaredSizeIsNotBelieved) {
  std::vector<uint8_t> frame = make_frame(kLabel, make_body(8));
  store(frame.data() + 48, ~uint64_t{0});
  EXPECT_EQ(refusal(kLabel, frame), ErrorKind::kCorrupt);
  store(frame.data() + 48, uint64_t{9});
  EXPECT_EQ(refusal(kLabel, frame), ErrorKind::kCorrupt);
}

TEST(FrameTest, TooLittleRoomIsABug) {
  std::vector<uint8_t> frame(kFrameHeaderBytes + 7);
  EXPECT_THROW(seal_frame(kLabel, 8, frame), BugError);
}

// The bytes are a promise to other versions (docs/wire.md): this test changes only with the
// version.
TEST(FrameTest, TheLayoutIsTheDocumentedOne) {
  const std::vector<uint8_t> frame = make_frame(kLabel, {});
  const std::vector<uint8_t> expected = {
      'F',  'R', 'M', '1', 1, 1, 1, 2,   // magic, version, leg, codec, element type
      5,    0,   0,   0,   0, 0, 0, 0,   // generation
      17,   0,   0,   0,   0, 0, 0, 0,   // step
      3,    0,   0,   0,   1, 0, 0, 0,   // bucket, chunk
      2,    0,   0,   0,   0, 0, 0, 0,   // sender, reserved
      0x84, 3,   0,   0,   0, 0, 0, 0,   // element count
      0,    0,   0,   0,   0, 0, 0, 0};  // body bytes
  EXPECT_EQ(std::vector<uint8_t>(frame.begin(), frame.begin() + 56), expected);
}

}  // namespace
}  // namespace longhaul

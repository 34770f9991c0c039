// Outbox and Inbox by themselves: two of them, and a connection that passes on what it likes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "links/inbox.h"
#include "links/outbox.h"

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Bytes = std::vector<uint8_t>;

Bytes bytes_of(size_t size, uint8_t first = 1) {
  Bytes bytes(size);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

// One direction of a link, with the answers of the other one.
class Line {
 public:
  explicit Line(uint64_t window = 1 << 20)
      : window_(window), out(window), in("rank 2", window, listener()) {}

  // Passes on up to so many bytes; what makes no sense is remembered.
  void pass(size_t most = SIZE_MAX) {
    while (most > 0 && wrong.empty()) {
      const auto parts = out.next();
      if (parts[0].empty() && parts[1].empty()) return;
      const size_t some = std::min({parts[0].size() + parts[1].size(), most, step});
      const size_t first = std::min(some, parts[0].size());
      Bytes joined(parts[0].begin(), parts[0].begin() + static_cast<ptrdiff_t>(first));
      joined.insert(joined.end(), parts[1].begin(),
                    parts[1].begin() + static_cast<ptrdiff_t>(some - first));
      most -= joined.size();
      out.taken(joined.size());
      deliver(joined);
    }
  }
  void deliver(const Bytes& bytes) {
    for (size_t at = 0; at < bytes.size() && wrong.empty();) {
      const auto room = in.room();
      const size_t some = std::min(bytes.size() - at, room[0].size() + room[1].size());
      const size_t first = std::min(some, room[0].size());
      std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(at), first, room[0].begin());
      std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(at + first), some - first,
                  room[1].begin());
      at += some;
      if (const Result<void> taken = in.take(some); !taken) wrong = taken.failure().message;
    }
  }
  void send(uint64_t operation, const Bytes& bytes) {
    out.message(operation, bytes, [this, operation](const LinkFault* fault) {
      (fault == nullptr ? sent : failed).push_back(operation);
    });
  }
  void receive(uint64_t operation, Bytes* into, bool exactly = true) {
    in.receive(operation, *into, exactly, [this, operation](const LinkFault* fault, size_t size) {
      if (fault == nullptr) {
        received.push_back(operation);
        sizes.push_back(size);
      } else {
        faults.push_back(fault->message);
      }
    });
  }

  const uint64_t window_;
  std::vector<uint64_t> sent;
  std::vector<uint64_t> failed;
  std::vector<uint64_t> received;
  std::vector<size_t> sizes;
  std::vector<std::string> faults;
  std::string wrong;
  bool goodbye = false;
  size_t step = SIZE_MAX;  // of bytes at once
  int wants = 0;
  Outbox out;
  Inbox in;

 private:
  Inbox::Listener listener() {
    Inbox::Listener listener;
    // There is no way back to lose anything on.
    listener.answer = [this](const LinkFrame& frame) {
      if (frame.kind == FrameKind::kReady) {
        ++wants;
        out.ready(frame.operation);
      } else if (frame.kind == FrameKind::kCredit) {
        out.credit(frame.offset);
      }
    };
    listener.about_ours = [](const LinkFrame&) {};
    listener.goodbye = [this] { goodbye = true; };
    return listener;
  }
};

TEST(LinkBoxes, AMessageComesIntoTheMemoryThatWaitsForIt) {
  Line line;
  Bytes into(1'000'000);
  const Bytes bytes = bytes_of(into.size());
  line.receive(7, &into);
  line.send(7, bytes);
  line.pass();
  EXPECT_EQ(into, bytes);
  EXPECT_THAT(line.sent, ElementsAre(7));
  EXPECT_THAT(line.received, ElementsAre(7));
  EXPECT_EQ(line.in.kept_bytes(), 0U);
}

TEST(LinkBoxes, AMessageThatNobodyWaitsForIsKeptUntilSomebodyDoes) {
  for (const size_t passed : {size_t{0}, size_t{20}, size_t{1'000}, size_t{300'000}, SIZE_MAX}) {
    Line line;
    const Bytes bytes = bytes_of(500'000);
    line.send(7, bytes);
    line.pass(passed);
    Bytes into(bytes.size());
    line.receive(7, &into);
    line.pass();
    EXPECT_EQ(into, bytes) << passed;
    EXPECT_THAT(line.received, ElementsAre(7)) << passed;
    EXPECT_EQ(line.in.kept_bytes(), 0U) << passed;
  }
}

TEST(LinkBoxes, BytesMayComeInAnyPortions) {
  for (const size_t step : {1, 7, 47, 48, 49, 100'000}) {
    Line line;
    line.step = step;
    std::vector<Bytes> sent;
    std::vector<Bytes> into;
    for (const size_t size : {0, 1, 300, 3'000}) {
      sent.push_back(bytes_of(size));
      into.emplace_back(size);
    }
    for (size_t i = 0; i < sent.size(); ++i) line.send(i, sent[i]);
    for (size_t i = 0; i < into.size(); i += 2) line.receive(i, &into[i]);
    line.pass();
    for (size_t i = 1; i < into.size(); i += 2) line.receive(i, &into[i]);
    EXPECT_EQ(into, sent) << step << line.wrong;
  }
}

TEST(LinkBoxes, MessagesOfOneOperationKeepTheirOrderWhateverTheirSize) {
  Line line;
  const Bytes large = bytes_of(800'000);
  const Bytes small = bytes_of(10, 77);
  line.send(7, large);
  line.send(7, small);
  line.send(7, large);
  Bytes first(large.size());
  Bytes second(small.size());
  Bytes third(large.size());
  line.pass(400'000);
  line.receive(7, &first);
  line.receive(7, &second);
  line.receive(7, &third);
  line.pass();
  EXPECT_EQ(first, large);
  EXPECT_EQ(second, small);
  EXPECT_EQ(third, large);
}

TEST(LinkBoxes, SmallAndUrgentOnesDoNotWaitForBulk) {
  Line line(64 << 20);
  Bytes into(8 << 20);
  Bytes little(100);
  const Bytes bulk(into.size());
  const Bytes small(little.size());
  line.receive(1, &into);
  line.receive(2, &little);
  line.send(1, bulk);
  line.pass(1'000'000);
  line.send(2, small);
  line.out.urgent({FrameKind::kGoodbye, 0, 0, 0, 0});
  line.pass(kMaxPieceBytes + kLinkHeaderBytes);
  EXPECT_TRUE(line.goodbye) << "behind the piece that was under way";
  line.pass(little.size() + kLinkHeaderBytes);
  EXPECT_THAT(line.received, ElementsAre(2));
  line.pass();
  EXPECT_THAT(line.received, ElementsAre(2, 1));
}

TEST(LinkBoxes, WhatIsKeptForLaterIsBoundedAndNothingWaitsForEver) {
  Line line(100'000);
  std::vector<Bytes> into(50, Bytes(30'000));
  const Bytes bytes = bytes_of(30'000);
  for (uint64_t i = 0; i < into.size(); ++i) line.send(i, bytes);
  line.pass();
  EXPECT_LE(line.in.kept_bytes(), 100'000U);
  EXPECT_EQ(line.sent.size(), 3U);
  // The last one is asked for first: it must not wait for those before it.
  for (size_t i = into.size(); i-- > 0;) {
    line.receive(i, &into[i]);
    line.pass();
    EXPECT_EQ(into[i], bytes) << i;
    EXPECT_LE(line.in.kept_bytes(), 100'000U);
  }
  EXPECT_EQ(line.received.size(), into.size());
  EXPECT_THAT(line.wrong, IsEmpty());
}

TEST(LinkBoxes, AMessageLargerThanTheWindowComesOnceItsReceiveIsThere) {
  Line line(100'000);
  const Bytes bytes = bytes_of(1'000'000);
  line.send(7, bytes);
  line.pass();
  EXPECT_EQ(line.in.kept_bytes(), 0U);
  EXPECT_THAT(line.sent, IsEmpty());
  Bytes into(bytes.size());
  line.receive(7, &into);
  line.pass();
  EXPECT_EQ(into, bytes);
}

TEST(LinkBoxes, EmptyMessagesTakeRoomToo) {
  Line line(100 * kMessageCost);
  for (uint64_t i = 0; i < 1'000; ++i) line.send(i, {});
  line.pass();
  EXPECT_LE(line.sent.size(), 100U);
  for (uint64_t i = 0; i < 1'000; ++i) {
    Bytes nothing;
    line.receive(i, &nothing);
    line.pass();
  }
  EXPECT_EQ(line.received.size(), 1'000U);
}

TEST(LinkBoxes, AMessageOfAnotherSizeEndsItsReceiveAndNoOther) {
  for (const bool kept : {false, true}) {
    Line line;
    Bytes into(100);
    Bytes other(300'000);
    const Bytes longer = bytes_of(400'000);
    const Bytes fits = bytes_of(300'000, 9);
    line.send(7, longer);
    line.send(8, fits);
    if (kept) line.pass(300'000);
    line.receive(7, &into);
    line.receive(8, &other);
    line.pass();
    ASSERT_EQ(line.faults.size(), 1U);
    EXPECT_THAT(line.faults[0], HasSubstr("rank 2 sent 400000 bytes where 100 are expected"));
    EXPECT_EQ(into, Bytes(100)) << "not touched";
    EXPECT_EQ(other, fits);
    EXPECT_EQ(line.in.kept_bytes(), 0U);
  }
}

TEST(LinkBoxes, AShorterOneIsTakenWhereThatIsAllowed) {
  Line line;
  Bytes into(100);
  const Bytes bytes = bytes_of(40);
  line.receive(7, &into, false);
  line.send(7, bytes);
  line.pass();
  EXPECT_THAT(line.sizes, ElementsAre(40));
  line.receive(8, &into, true);
  line.send(8, bytes);
  line.pass();
  EXPECT_EQ(line.faults.size(), 1U);
}

TEST(LinkBoxes, AFaultEndsEverythingOnceAndTouchesNothingAfter) {
  Line line;
  const Bytes bytes = bytes_of(600'000);
  Bytes first(bytes.size());
  Bytes second(bytes.size());
  line.receive(1, &first);
  line.receive(2, &second);
  line.send(1, bytes);
  line.send(2, bytes);
  line.pass(100'000);
  const LinkFault gone{ErrorKind::kPeerLost, 2, "rank 2 is gone"};
  line.in.fail(gone);
  line.out.fail(gone);
  EXPECT_THAT(line.faults, ElementsAre("rank 2 is gone", "rank 2 is gone"));
  EXPECT_THAT(line.failed, ElementsAre(1, 2));
  EXPECT_TRUE(line.out.empty());
}

// Whoever has sent all may leave before anybody has asked for it.
TEST(LinkBoxes, WhatHasComeWholeIsThereWhenItsSenderIsNot) {
  Line line;
  const Bytes bytes = bytes_of(1'000);
  const Bytes large = bytes_of(600'000);
  line.send(1, bytes);
  line.send(2, large);
  line.pass(400'000);
  line.in.fail({ErrorKind::kPeerLost, 2, "rank 2 has left"});
  Bytes into(bytes.size());
  Bytes other(large.size());
  line.receive(1, &into);
  EXPECT_EQ(into, bytes);
  line.receive(2, &other);
  line.receive(1, &into);
  EXPECT_THAT(line.faults, ElementsAre("rank 2 has left", "rank 2 has left"));
}

TEST(LinkBoxes, EveryFlippedBitOfAHeaderIsSeenAndOfABodyToo) {
  const Bytes bytes = bytes_of(40);
  Bytes frame(kLinkHeaderBytes + bytes.size());
  write_link_header({FrameKind::kPiece, 7, bytes.size(), 0, 0}, bytes, frame.data());
  std::copy(bytes.begin(), bytes.end(), frame.begin() + kLinkHeaderBytes);
  for (size_t bit = 0; bit < frame.size() * 8; ++bit) {
    Line line;
    Bytes into(bytes.size());
    line.receive(7, &into);
    Bytes flipped = frame;
    flipped[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
    line.deliver(flipped);
    EXPECT_THAT(line.wrong, HasSubstr("rank 2 sent bytes that make no sense")) << bit;
    EXPECT_THAT(line.received, IsEmpty()) << bit;
  }
}

// Right in form, wrong in what they say: whoever writes frames by hand.
TEST(LinkBoxes, FramesThatDoNotFollowEachOtherAreRefused) {
  const Bytes body = bytes_of(10);
  const auto frame = [&](LinkFrame what, size_t size) {
    Bytes made(kLinkHeaderBytes + size);
    write_link_header(what, ByteSpan(body).first(size), made.data());
    std::copy_n(body.begin(), size, made.begin() + kLinkHeaderBytes);
    return made;
  };
  const std::vector<std::vector<Bytes>> wrong = {
      {frame({FrameKind::kPiece, 7, 20, 10, 0}, 10)},
      {frame({FrameKind::kPiece, 7, 30, 0, 0}, 10), frame({FrameKind::kPiece, 7, 30, 0, 0}, 10)},
      {frame({FrameKind::kPiece, 7, 30, 0, 0}, 10), frame({FrameKind::kPiece, 7, 30, 20, 0}, 10)},
      {frame({FrameKind::kPiece, 7, 30, 0, 0}, 10), frame({FrameKind::kPiece, 7, 29, 10, 0}, 10)},
      {frame({FrameKind::kPiece, 7, 5, 0, 0}, 10)},
      {frame({FrameKind::kPiece, 7, 20, 0, 0}, 0)},
      {frame({FrameKind::kPiece, 7, uint64_t{1} << 50, 0, 0}, 10)},
      {frame({FrameKind::kPiece, 7, 2 << 20, 0, 0}, 10)},  // more than the window
      {frame({FrameKind::kPiece, 7, UINT64_MAX, UINT64_MAX - 3, 0}, 10)},
      {frame({FrameKind::kHello, 0, 0, 0, 0}, 10)},
      {frame({FrameKind::kGoodbye, 0, 0, 0, 0}, 10)},
      {frame({static_cast<FrameKind>(0), 0, 0, 0, 0}, 0)},
      {frame({static_cast<FrameKind>(7), 0, 0, 0, 0}, 0)}};
  for (size_t i = 0; i < wrong.size(); ++i) {
    Line line;
    for (const Bytes& bytes : wrong[i]) line.deliver(bytes);
    EXPECT_THAT(line.wrong, HasSubstr("make no sense")) << i;
  }
}

TEST(LinkBoxes, NonsenseAboutRoomChangesNothing) {
  Line line(100'000);
  const Bytes bytes = bytes_of(80'000);
  for (uint64_t i = 0; i < 4; ++i) line.send(i, bytes);
  line.out.credit(UINT64_MAX);
  for (uint64_t i = 0; i < 1'000; ++i) line.out.ready(i + 4);
  line.pass();
  EXPECT_EQ(line.sent.size(), 1U);
  EXPECT_THAT(line.wrong, IsEmpty());
}

// Any order of sends, receives and portions: every byte arrives, in order, within the window.
TEST(LinkBoxes, RandomLives) {
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](size_t most) { return static_cast<size_t>(random() % most); };
    const uint64_t window = 1'000 + below(400'000);
    Line line(window);
    line.step = 1 + below(below(2) == 0 ? 100 : 300'000);
    std::vector<Bytes> sent(30);
    std::vector<Bytes> into(sent.size());
    std::vector<uint64_t> operation(sent.size());
    for (size_t i = 0; i < sent.size(); ++i) {
      sent[i] = bytes_of(below(below(3) == 0 ? 300'000 : 2'000), static_cast<uint8_t>(i));
      into[i].resize(sent[i].size());
      operation[i] = below(6);
    }
    size_t to_send = 0;
    size_t to_receive = 0;
    // Receives of one operation are made in the order of its messages, those of others in any.
    std::vector<size_t> order(sent.size());
    std::iota(order.begin(), order.end(), 0U);
    std::shuffle(order.begin(), order.end(), random);
    std::map<uint64_t, std::vector<size_t>> of_operation;
    for (size_t i = 0; i < sent.size(); ++i) of_operation[operation[i]].push_back(i);
    std::map<uint64_t, size_t> taken;
    while (to_send < sent.size() || to_receive < sent.size()) {
      if (to_send < sent.size() && below(2) == 0) {
        line.send(operation[to_send], sent[to_send]);
        ++to_send;
      } else if (to_receive < sent.size()) {
        const uint64_t one = operation[order[to_receive++]];
        line.receive(one, &into[of_operation[one][taken[one]++]]);
      }
      line.pass(below(200'000));
      ASSERT_LE(line.in.kept_bytes(), window) << seed;
    }
    line.pass();
    ASSERT_THAT(line.wrong, IsEmpty()) << seed;
    ASSERT_THAT(line.faults, IsEmpty()) << seed;
    ASSERT_EQ(line.received.size(), sent.size()) << seed;
    ASSERT_EQ(line.sent.size(), sent.size()) << seed;
    ASSERT_EQ(into, sent) << seed;
    ASSERT_EQ(line.in.kept_bytes(), 0U) << seed;
  }
}

}  // namespace
}  // namespace longhaul

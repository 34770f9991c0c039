// Output and events on their way to the master: bounded, in order, sent again after a reconnect.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "control/worker/last_lines.h"
#include "control/worker/master_link.h"
#include "control/worker/outbox.h"
#include "control/worker/output_flow.h"
#include "control/worker/spool.h"
#include "tests/support/temp_dir.h"

namespace longhaul {
namespace {

size_t file_count(const testing::TempDir& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder.path()), {}));
}

TEST(Spool, GivesBackWhatWasWrittenAtItsOffset) {
  const testing::TempDir folder;
  Spool spool(folder.file("out"));
  uint64_t offset = 0;
  EXPECT_EQ(spool.read(offset, 100), "");
  spool.append("");
  spool.append("one");
  spool.append("two");
  EXPECT_EQ(spool.read(offset, 100), "onetwo");
  offset = 2;
  EXPECT_EQ(spool.read(offset, 2), "et");
  offset = 6;
  EXPECT_EQ(spool.read(offset, 100), "");
}

TEST(Spool, CrossesItsSegmentsAndForgetsThemOneByOne) {
  const testing::TempDir folder;
  {
    Spool spool(folder.file("out"));
    spool.append(std::string(Spool::kSegmentBytes - 1, 'a') + "bc");
    uint64_t offset = Spool::kSegmentBytes - 2;
    EXPECT_EQ(spool.read(offset, 100), "ab");
    offset = Spool::kSegmentBytes;
    EXPECT_EQ(spool.read(offset, 100), "c");
    EXPECT_EQ(file_count(folder), 2U);
    spool.trim(Spool::kSegmentBytes - 1);
    EXPECT_EQ(file_count(folder), 2U);
    spool.trim(Spool::kSegmentBytes);
    EXPECT_EQ(file_count(folder), 1U);
    EXPECT_EQ(spool.begin(), Spool::kSegmentBytes);
  }
  EXPECT_EQ(file_count(folder), 0U);
}

TEST(Spool, DropsTheOldestBeyondItsBound) {
  const testing::TempDir folder;
  Spool spool(folder.file("out"));
  const std::string block(Spool::kSegmentBytes / 2 + 7, 'x');
  while (spool.end() < 2 * Spool::kMaxBytes) {
    spool.append(block);
    EXPECT_LE(spool.end() - spool.begin(), Spool::kMaxBytes);
  }
  uint64_t offset = 5;
  EXPECT_EQ(spool.read(offset, 10), std::string(10, 'x'));
  EXPECT_EQ(offset, spool.begin());
}

TEST(Spool, ADiskThatTakesNothingLosesOutputButNotItsPlace) {
  Spool spool("/no/such/folder/out");
  spool.append("lost");
  uint64_t offset = 0;
  EXPECT_EQ(spool.read(offset, 100), "");
  EXPECT_EQ(offset, 4U);
}

// Takes everything that may be sent now.
std::string take_all(OutputFlow& flow, size_t stream) {
  std::string taken;
  while (const std::optional<OutputFlow::Chunk> chunk = flow.next()) {
    if (chunk->stream == stream) taken += chunk->data;
  }
  return taken;
}

TEST(OutputFlow, StopsAtItsWindowAndGoesOnWhenAcknowledged) {
  const testing::TempDir folder;
  OutputFlow flow(folder.path().string(), 2);
  const size_t total = 3 * OutputFlow::kWindowBytes + 12345;
  flow.append(1, std::string(total, 'x'));
  size_t taken = take_all(flow, 1).size();
  EXPECT_EQ(taken, OutputFlow::kWindowBytes);
  EXPECT_FALSE(flow.all_sent(1));
  EXPECT_TRUE(flow.all_sent(0));
  while (taken < total) {
    flow.acknowledge(taken);
    const size_t more = take_all(flow, 1).size();
    ASSERT_GT(more, 0U);
    taken += more;
  }
  EXPECT_EQ(taken, total);
  EXPECT_FALSE(flow.all_acknowledged());
  flow.acknowledge(taken);
  EXPECT_TRUE(flow.all_acknowledged());
}

TEST(OutputFlow, ALoudStreamDoesNotSilenceAnother) {
  const testing::TempDir folder;
  OutputFlow flow(folder.path().string(), 2);
  flow.append(0, std::string(OutputFlow::kWindowBytes, 'x'));
  flow.append(1, "hello");
  EXPECT_EQ(take_all(flow, 1), "hello");
}

TEST(OutputFlow, SendsAgainWhatWasNotAcknowledged) {
  const testing::TempDir folder;
  OutputFlow flow(folder.path().string(), 1);
  flow.append(0, "first ");
  EXPECT_EQ(take_all(flow, 0), "first ");
  flow.acknowledge(6);
  flow.append(0, "second ");
  EXPECT_EQ(take_all(flow, 0), "second ");
  flow.restart();
  flow.append(0, "third");
  const std::optional<OutputFlow::Chunk> chunk = flow.next();
  ASSERT_TRUE(chunk);
  EXPECT_EQ(chunk->offset, 6U);
  EXPECT_EQ(chunk->data, "second third");
  flow.acknowledge(1'000'000);  // more than was sent: as if all
  EXPECT_TRUE(flow.all_acknowledged());
}

v1::RankEvent event(uint32_t rank) {
  v1::RankEvent event;
  event.set_rank(rank);
  return event;
}

TEST(Outbox, KeepsAnEventUntilALaterHeartbeatIsAnswered) {
  Outbox outbox;
  outbox.heartbeat_sent();
  outbox.add(event(1));
  outbox.heartbeat_answered();  // the one sent before the event
  EXPECT_EQ(outbox.events().size(), 1U);
  outbox.heartbeat_sent();
  outbox.add(event(2));
  outbox.heartbeat_answered();
  ASSERT_EQ(outbox.events().size(), 1U);
  EXPECT_EQ(outbox.events()[0].rank(), 2U);
}

TEST(Outbox, ANewSessionConfirmsEverythingAnew) {
  Outbox outbox;
  for (int i = 0; i < 5; ++i) outbox.heartbeat_sent();
  outbox.add(event(1));
  outbox.restart();
  EXPECT_EQ(outbox.events().size(), 1U);
  outbox.heartbeat_sent();
  outbox.heartbeat_answered();
  EXPECT_TRUE(outbox.events().empty());
}

TEST(LastLines, KeepsTheLastOnesWithinItsBounds) {
  LastLines lines;
  EXPECT_TRUE(lines.empty());
  for (int i = 0; i < 100; ++i) lines.append(std::to_string(i) + "\n");
  lines.append(std::string(100'000, 'x'));
  ASSERT_EQ(lines.lines().size(), LastLines::kMaxLines);
  EXPECT_EQ(lines.lines().front(), "81");
  EXPECT_EQ(lines.lines().back().size(), LastLines::kMaxLineBytes);
}

TEST(LastLines, ALineMayComeInPieces) {
  LastLines lines;
  lines.append("one li");
  lines.append("ne\ntwo");
  EXPECT_EQ(lines.lines(), (std::vector<std::string>{"one line", "two"}));
}

TEST(ToUtf8, ReplacesWhatIsNot) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(to_utf8("plain \xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80"),
            "plain \xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80");
  EXPECT_EQ(to_utf8("a\xFFz"), "a" + bad + "z");
  EXPECT_EQ(to_utf8("cut \xE2\x82"), "cut " + bad + bad);
  EXPECT_EQ(to_utf8("\xC0\x80"), bad + bad);
  EXPECT_EQ(to_utf8("\xED\xA0\x80"), bad + bad + bad);
  EXPECT_EQ(to_utf8(""), "");
}

TEST(ReconnectDelay, GrowsToABoundAndIsSpread) {
  EXPECT_EQ(reconnect_delay(1, 0), milliseconds(100));
  EXPECT_LT(reconnect_delay(1, 0), reconnect_delay(3, 0));
  EXPECT_EQ(reconnect_delay(1000, 0), milliseconds(3000));
  EXPECT_GE(reconnect_delay(1000, 0.999), milliseconds(1500));
}

}  // namespace
}  // namespace longhaul

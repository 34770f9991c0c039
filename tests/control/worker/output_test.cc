// Output and events on their way to the master: bounded, in order, sent again after a reconnect.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "control/worker/output/last_lines.h"
#include "control/worker/output/output_flow.h"
#include "control/worker/output/spool_reader.h"
#include "control/worker/output/spool_writer.h"
#include "control/worker/session/master_link.h"
#include "control/worker/session/outbox.h"
#include "tests/control/worker/mapped_ledger.h"
#include "tests/support/temp_dir.h"

namespace longhaul {
namespace {

constexpr uint64_t kSpoolBytes = 4096;
constexpr uint64_t kSegmentBytes = kSpoolBytes / SpoolWriter::kSegments;

// A rank's folder whose first stream the test writes as a shim would.
class SpooledRank {
 public:
  explicit SpooledRank(uint64_t max_bytes = kSpoolBytes)
      : folder(ProcessFolder::create(parent_.file("rank-0"), "token").value_or_throw()),
        ledger(folder.path()),
        writer(folder.fd(), "stdout", ledger->streams[0], max_bytes) {}

  void write(const std::string& data) {
    writer.append(data.data(), data.size());
    folder.refresh();
  }
  SpoolReader reader() const { return {folder, 0}; }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      const std::string name = entry.path().filename();
      if (name.starts_with("stdout.")) names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  const testing::TempDir parent_;

 public:
  ProcessFolder folder;
  testing::MappedLedger ledger;
  SpoolWriter writer;
};

// `size` bytes of a stream from `offset` on that tell their place.
std::string pattern(uint64_t offset, size_t size) {
  std::string text;
  for (; text.size() < size; ++offset) text += static_cast<char>('a' + offset % 23);
  return text;
}

// A disk that takes no more, as far as this process sees it.
class FullDisk {
 public:
  explicit FullDisk(rlim_t file_bytes) {
    (void)::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small{file_bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~FullDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST(Spool, GivesBackWhatWasWrittenAtItsOffset) {
  SpooledRank rank;
  SpoolReader reader = rank.reader();
  uint64_t offset = 0;
  EXPECT_EQ(reader.read(offset, 100), "");
  rank.write("");
  rank.write("one");
  rank.write("two");
  EXPECT_EQ(reader.read(offset, 100), "onetwo");
  offset = 2;
  EXPECT_EQ(reader.read(offset, 2), "et");
  offset = 6;
  EXPECT_EQ(reader.read(offset, 100), "");
  rank.write("three");
  EXPECT_EQ(reader.read(offset, 100), "three");
}

TEST(Spool, CrossesItsSegmentsAndForgetsThemOneByOne) {
  SpooledRank rank(1 << 20);
  constexpr uint64_t kSegment = (1 << 20) / SpoolWriter::kSegments;
  const std::string all = pattern(0, 3 * kSegment - 100);
  rank.write(all);
  EXPECT_EQ(rank.files().size(), 3U);
  SpoolReader reader = rank.reader();
  std::string got;
  for (uint64_t offset = 0; offset < reader.end();) {
    const std::string piece = reader.read(offset, 50'000);
    got += piece;
    offset += piece.size();
  }
  EXPECT_EQ(got, all);
  reader.acknowledge(kSegment - 1);
  EXPECT_EQ(rank.files().size(), 3U);
  reader.acknowledge(kSegment);
  EXPECT_EQ(rank.files().size(), 2U);
  reader.acknowledge(reader.end());
  EXPECT_EQ(rank.files().size(), 1U);
  // Somebody may still ask how it ended.
  EXPECT_EQ(reader.tail(), all.substr(all.size() - SpoolReader::kTailBytes));
}

TEST(Spool, DropsTheOldestBeyondItsCap) {
  SpooledRank rank;
  SpoolReader reader = rank.reader();
  for (uint64_t offset = 0; offset < 5 * kSpoolBytes; offset += 700) {
    rank.write(pattern(offset, 700));
    uint64_t on_disk = 0;
    for (const std::string& file : rank.files()) {
      on_disk += std::filesystem::file_size(rank.folder.path() + "/" + file);
    }
    ASSERT_LE(on_disk, kSpoolBytes);
  }
  uint64_t offset = 5;
  const std::string kept = reader.read(offset, 100);
  EXPECT_EQ(kept, pattern(offset, 100));
  EXPECT_LE(reader.end() - offset, kSpoolBytes);
  EXPECT_GT(reader.end() - offset, kSpoolBytes - 2 * kSegmentBytes);
}

TEST(Spool, AnotherReaderGoesOnWhereTheFirstOneWas) {
  SpooledRank rank;
  rank.write("taken, not taken");
  rank.reader().acknowledge(6);
  const ProcessFolder again = ProcessFolder::open(rank.folder.path()).value_or_throw();
  SpoolReader second(again, 0);
  uint64_t offset = second.acknowledged();
  EXPECT_EQ(second.read(offset, 100), " not taken");
}

TEST(Spool, AFullDiskLosesOutputButNotItsPlace) {
  SpooledRank rank;
  SpoolReader reader = rank.reader();
  {
    const FullDisk full(10);
    rank.write("0123456789 lost");
  }
  rank.write("kept");
  uint64_t offset = 0;
  EXPECT_EQ(reader.read(offset, 100), "0123456789");
  EXPECT_EQ(offset, 0U);
  offset = 10;
  EXPECT_EQ(reader.read(offset, 100), "kept");
  EXPECT_EQ(offset, 15U);
  EXPECT_EQ(rank.files(), (std::vector<std::string>{"stdout.0", "stdout.15"}));
}

TEST(Spool, AFullDiskLeavesNoEmptyFiles) {
  SpooledRank rank;
  const FullDisk full(0);
  for (int i = 0; i < 100; ++i) rank.write("lost");
  EXPECT_TRUE(rank.files().empty());
  uint64_t offset = 0;
  EXPECT_EQ(rank.reader().read(offset, 100), "");
  EXPECT_EQ(offset, 400U);
}

// This process may open nothing more, until it goes.
class NoDescriptorsLeft {
 public:
  NoDescriptorsLeft() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const int next = ::dup(0);
    ::close(next);
    const rlimit small{static_cast<rlim_t>(next), before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &small);
  }
  ~NoDescriptorsLeft() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST(Spool, WhatCannotBeOpenedNowIsNotGone) {
  SpooledRank rank;
  rank.write("here");
  SpoolReader reader = rank.reader();
  uint64_t offset = 0;
  {
    const NoDescriptorsLeft none;
    EXPECT_EQ(reader.read(offset, 100), "");
    EXPECT_NE(reader.trouble().find("Too many open files"), std::string::npos);
    EXPECT_EQ(offset, 0U);
  }
  EXPECT_EQ(reader.read(offset, 100), "here");
  EXPECT_EQ(reader.trouble(), "");
}

TEST(Spool, APipeInAFilesPlaceIsNotWaitedFor) {
  SpooledRank rank;
  rank.write("gone");
  const std::string first = rank.folder.path() + "/stdout.0";
  ASSERT_EQ(::unlink(first.c_str()), 0);
  ASSERT_EQ(::mkfifo(first.c_str(), 0600), 0);
  const std::string next = rank.folder.path() + "/stdout." + std::to_string(kSegmentBytes);
  ASSERT_EQ(::mkfifo(next.c_str(), 0600), 0);
  rank.write(pattern(4, 2 * kSegmentBytes));
  uint64_t offset = 0;
  SpoolReader reader = rank.reader();
  const std::string text = reader.read(offset, 10);
  EXPECT_EQ(offset, kSegmentBytes);
  EXPECT_EQ(text, pattern(offset, 10));
}

// Takes everything that may be sent now.
std::string take_all(OutputFlow& flow, size_t stream) {
  std::string taken;
  while (const std::optional<OutputFlow::Chunk> chunk = flow.next()) {
    if (chunk->stream == stream) taken += chunk->data;
  }
  return taken;
}

// The flow of a launch with one rank; `writer` is its stdout.
class SpooledFlow : public SpooledRank {
 public:
  explicit SpooledFlow(uint64_t max_bytes = 64 << 20)
      : SpooledRank(max_bytes),
        stderr_writer(folder.fd(), "stderr", ledger->streams[1], max_bytes) {
    flow.add({folder, 0});
    flow.add({folder, 1});
  }
  void write_stderr(const std::string& data) {
    stderr_writer.append(data.data(), data.size());
    folder.refresh();
  }

  SpoolWriter stderr_writer;
  OutputFlow flow;
};

TEST(OutputFlow, StopsAtItsWindowAndGoesOnWhenAcknowledged) {
  SpooledFlow rank;
  OutputFlow& flow = rank.flow;
  const size_t total = 3 * OutputFlow::kWindowBytes + 12345;
  rank.write_stderr(std::string(total, 'x'));
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
  SpooledFlow rank;
  rank.write(std::string(OutputFlow::kWindowBytes, 'x'));
  rank.write_stderr("hello");
  EXPECT_EQ(take_all(rank.flow, 1), "hello");
}

TEST(OutputFlow, SendsAgainWhatWasNotAcknowledged) {
  SpooledFlow rank;
  OutputFlow& flow = rank.flow;
  rank.write("first ");
  EXPECT_EQ(take_all(flow, 0), "first ");
  flow.acknowledge(6);
  rank.write("second ");
  EXPECT_EQ(take_all(flow, 0), "second ");
  flow.restart();
  rank.write("third");
  const std::optional<OutputFlow::Chunk> chunk = flow.next();
  ASSERT_TRUE(chunk);
  EXPECT_EQ(chunk->offset, 6U);
  EXPECT_EQ(chunk->data, "second third");
  flow.acknowledge(1'000'000);  // more than was sent: as if all
  EXPECT_TRUE(flow.all_acknowledged());
}

TEST(OutputFlow, ALineTakesThePlaceOfWhatIsGone) {
  SpooledFlow rank(kSpoolBytes);
  rank.write(pattern(0, 3 * kSpoolBytes));
  const std::optional<OutputFlow::Chunk> notice = rank.flow.next();
  ASSERT_TRUE(notice);
  EXPECT_EQ(notice->offset, 0U);
  EXPECT_NE(notice->data.find("of output are missing here"), std::string::npos);
  EXPECT_LE(notice->data.size(), notice->lost);
  const std::optional<OutputFlow::Chunk> rest = rank.flow.next();
  ASSERT_TRUE(rest);
  EXPECT_EQ(rest->offset, notice->lost);
  EXPECT_EQ(rest->data, pattern(rest->offset, rest->data.size()));
  take_all(rank.flow, 0);
  EXPECT_TRUE(rank.flow.all_sent(0));
  rank.flow.acknowledge(1'000'000);
  EXPECT_TRUE(rank.flow.all_acknowledged());
}

TEST(OutputFlow, WaitsForWhatCannotBeReadNow) {
  SpooledFlow rank;
  rank.write("still here");
  {
    const NoDescriptorsLeft none;
    EXPECT_FALSE(rank.flow.next());
    EXPECT_NE(rank.flow.trouble(), "");
    EXPECT_FALSE(rank.flow.all_sent(0));
  }
  EXPECT_EQ(take_all(rank.flow, 0), "still here");
  EXPECT_EQ(rank.flow.trouble(), "");
}

TEST(OutputFlow, TheEndOfALostStreamIsItsEndToo) {
  SpooledFlow rank;
  {
    const FullDisk full(0);
    rank.write("gone");
  }
  EXPECT_EQ(take_all(rank.flow, 0), "????");
  EXPECT_TRUE(rank.flow.all_sent(0));
  rank.flow.acknowledge(4);
  EXPECT_TRUE(rank.flow.all_acknowledged());
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

#include "control/master/feeds/output_log.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>

#include "control/master/feeds/job_feed.h"
#include "longhaul/base/strings.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace longhaul {
namespace {

using testing::read_text;

v1::Output piece(int number) {
  v1::Output output;
  output.set_rank(3);
  output.set_stream(v1::OUTPUT_STREAM_STDOUT);
  output.set_offset(static_cast<uint64_t>(number) * 10);
  output.set_data(str_cat("piece ", 100 + number, "\n"));
  return output;
}

class OutputLogTest : public ::testing::Test {
 protected:
  void write(int first, int end) {
    OutputLog log(path_);
    log.load();
    for (int i = first; i < end; ++i) ASSERT_TRUE(log.append(piece(i)));
  }
  std::vector<int> load() {
    std::vector<int> numbers;
    for (const v1::Output& output : OutputLog(path_).load()) {
      const int number = static_cast<int>(output.offset() / 10);
      EXPECT_EQ(output.SerializeAsString(), piece(number).SerializeAsString());
      numbers.push_back(number);
    }
    return numbers;
  }
  void spoil(const std::function<void(std::string*)>& how) {
    std::string bytes = read_text(path_);
    how(&bytes);
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
  }

  testing::TempDir folder_;
  const std::string path_ = folder_.file("j1.log");
};

TEST_F(OutputLogTest, ComesBackInOrderAndIsWrittenOn) {
  write(0, 3);
  write(3, 5);
  EXPECT_EQ(load(), (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST_F(OutputLogTest, AByteThatChangedCostsItsEntryAndNoOther) {
  write(0, 5);
  spoil([](std::string* bytes) { (*bytes)[bytes->find("piece 102") + 7] ^= 1; });
  EXPECT_EQ(load(), (std::vector<int>{0, 1, 3, 4}));
  // The damage is gone, and what follows is not hidden.
  write(5, 6);
  EXPECT_EQ(load(), (std::vector<int>{0, 1, 3, 4, 5}));
}

TEST_F(OutputLogTest, EveryByteMayBeSpoilt) {
  write(0, 4);
  const std::string whole = read_text(path_);
  for (size_t at = 8; at < whole.size(); ++at) {
    spoil([&](std::string* bytes) {
      *bytes = whole;
      (*bytes)[at] = static_cast<char>((*bytes)[at] ^ 0x55);
    });
    EXPECT_EQ(load().size(), 3U) << "byte " << at;
  }
}

TEST_F(OutputLogTest, ATailThatWasCutIsDropped) {
  write(0, 4);
  const std::string whole = read_text(path_);
  for (size_t cut = 1; cut < 30; ++cut) {
    spoil([&](std::string* bytes) { *bytes = whole.substr(0, whole.size() - cut); });
    EXPECT_EQ(load(), (std::vector<int>{0, 1, 2}));
    write(4, 5);
    EXPECT_EQ(load(), (std::vector<int>{0, 1, 2, 4}));
  }
}

TEST_F(OutputLogTest, AnOlderMastersLogIsTakenOver) {
  std::string old;
  for (int i = 0; i < 3; ++i) {
    const std::string content = piece(i).SerializeAsString();
    const auto size = static_cast<uint32_t>(content.size());
    old.append(reinterpret_cast<const char*>(&size), sizeof(size));
    old += content;
  }
  std::ofstream(path_, std::ios::binary) << old;
  EXPECT_EQ(load(), (std::vector<int>{0, 1, 2}));
  write(3, 4);
  EXPECT_EQ(load(), (std::vector<int>{0, 1, 2, 3}));
}

// Pieces until the log is to be written anew, so many more before that is done, and two after it.
class ShortenedLog : public OutputLogTest {
 protected:
  void shorten_while(int more_come) {
    JobFeed::LongWrites long_writes;
    const auto feed = std::make_shared<JobFeed>(/*max_bytes=*/4096, path_, &long_writes);
    int number = 0;
    std::optional<std::function<void()>> task;
    while (!task) {
      feed->append(piece(number++));
      task = long_writes.pop_until(Instant());
    }
    for (int i = 0; i < more_come; ++i) feed->append(piece(number++));
    const uintmax_t before = std::filesystem::file_size(path_);
    (*task)();
    EXPECT_LT(std::filesystem::file_size(path_), before);
    for (int i = 0; i < 2; ++i) feed->append(piece(number++));
    std::vector<int> kept;
    for (const v1::Output& output : OutputLog(path_).load()) {
      if (!output.data().empty()) kept.push_back(static_cast<int>(output.offset() / 10));
    }
    ASSERT_GT(kept.size(), 3U);
    EXPECT_EQ(kept.back(), number - 1);
    for (size_t i = 1; i < kept.size(); ++i) EXPECT_EQ(kept[i], kept[i - 1] + 1);
  }
};

TEST_F(ShortenedLog, HasWhatCameBeforeMeanwhileAndAfter) {
  for (const int more_come : {0, 1, 5}) {
    shorten_while(more_come);
    std::filesystem::remove(path_);
  }
}

TEST_F(ShortenedLog, HasNoGapIfMoreComesThanIsKept) {
  shorten_while(300);
}

TEST_F(OutputLogTest, WhatWasClearedMeanwhileDoesNotComeBack) {
  JobFeed::LongWrites long_writes;
  const auto feed = std::make_shared<JobFeed>(/*max_bytes=*/4096, path_, &long_writes);
  for (int number = 0; number < 400; ++number) feed->append(piece(number));
  const auto task = long_writes.pop();
  feed->clear_output();
  (*task)();
  for (const v1::Output& output : OutputLog(path_).load()) EXPECT_EQ(output.data(), "");
  EXPECT_FALSE(std::filesystem::exists(path_ + ".new"));
}

}  // namespace
}  // namespace longhaul

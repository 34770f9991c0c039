#include "control/database/result_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr ResultName kName{12, 7, 1'099'511'627'780};

uint64_t checksum_of(const std::string& text) {
  Checksum checksum;
  checksum.update(text);
  return checksum.value();
}

std::string content(const std::string& folder, const ResultName& name) {
  const UniqueFd file = std::move(open_result_file(folder, name)).value_or_throw();
  return read_text("/proc/self/fd/" + std::to_string(file.get()));
}

TEST(ResultFiles, WhatWasFinishedIsThere) {
  TempDir folder;
  ResultFiles files(folder.path());
  ResultDraft draft = files.open(kName).value_or_throw();
  EXPECT_EQ(draft.size(), 0u);
  draft.append("one ").value_or_throw();
  draft.append("two").value_or_throw();
  EXPECT_FALSE(open_result_file(folder.path(), kName)) << "it is not whole yet";
  draft.finish(7, checksum_of("one two")).value_or_throw();
  EXPECT_EQ(content(folder.path(), kName), "one two");
}

TEST(ResultFiles, AnotherTryGoesOnWhereTheFirstOneWas) {
  TempDir folder;
  {
    ResultDraft draft = ResultFiles(folder.path()).open(kName).value_or_throw();
    draft.append("one ").value_or_throw();
  }
  ResultDraft draft = ResultFiles(folder.path()).open(kName).value_or_throw();
  EXPECT_EQ(draft.size(), 4u);
  draft.append("two").value_or_throw();
  draft.finish(7, checksum_of("one two")).value_or_throw();
  EXPECT_EQ(content(folder.path(), kName), "one two");
}

TEST(ResultFiles, DamagedBytesAreDroppedAndWantedAgain) {
  const auto damage = [](const std::string& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(1);
    file << 'X';
  };
  const auto cut = [](const std::string& path) { std::filesystem::resize_file(path, 2); };
  for (const std::function<void(const std::string&)>& harm :
       {std::function<void(const std::string&)>(damage),
        std::function<void(const std::string&)>(cut)}) {
    TempDir folder;
    ResultFiles files(folder.path());
    {
      ResultDraft draft = files.open(kName).value_or_throw();
      draft.append("one ").value_or_throw();
    }
    harm(folder.file("results/12/7.1099511627780.part"));
    ResultDraft draft = files.open(kName).value_or_throw();
    draft.append("two").value_or_throw();
    const Result<void> finished = draft.finish(7, checksum_of("one two"));
    ASSERT_FALSE(finished);
    EXPECT_EQ(finished.failure().kind, ErrorKind::kCorrupt);
    EXPECT_FALSE(open_result_file(folder.path(), kName));
    EXPECT_EQ(files.open(kName).value_or_throw().size(), 0u);
  }
}

TEST(ResultFiles, ASweepKeepsWhatIsWantedAndWhatNobodyKnows) {
  TempDir folder;
  ResultFiles files(folder.path());
  for (const TaskIndex task : {0U, 1U, 2U, 3U, 4U}) {
    ResultDraft draft = files.open({3, task, 5}).value_or_throw();
    draft.append("abc").value_or_throw();
    if (task != 1) draft.finish(3, checksum_of("abc")).value_or_throw();
  }
  (void)files.open({4, 0, 6}).value_or_throw();
  std::ofstream(folder.file("results/3/readme")) << "not ours";
  std::map<TaskIndex, uint64_t> whole;
  using enum ResultFiles::Standing;
  const auto standing = [](const ResultName& name) {
    constexpr ResultFiles::Standing kOfTasks[] = {kExpected, kExpected, kOver, kResult, kUnknown};
    return name.job == 3 ? kOfTasks[name.task] : kUnknown;
  };
  const auto take = [&](const ResultName& name, uint64_t bytes) { whole[name.task] = bytes; };
  EXPECT_EQ(files.sweep(standing, take).value_or_throw(), 1u);
  EXPECT_THAT(whole, ElementsAre(Pair(0u, 3u)));
  std::set<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder.file("results/3"))) {
    left.insert(entry.path().filename());
  }
  EXPECT_THAT(left, ElementsAre("0.5", "1.5.part", "3.5", "4.5", "readme"));
  EXPECT_FALSE(std::filesystem::exists(folder.file("results/4")));
}

TEST(ResultFiles, ACopyOutlivesTheOriginal) {
  TempDir folder;
  ResultFiles files(folder.path());
  ResultDraft draft = files.open(kName).value_or_throw();
  draft.append("abc").value_or_throw();
  draft.finish(3, checksum_of("abc")).value_or_throw();
  copy_result_file(folder.path(), kName, folder.file("copy/results")).value_or_throw();
  files.remove_job(kName.job);
  EXPECT_FALSE(open_result_file(folder.path(), kName));
  EXPECT_EQ(content(folder.file("copy"), kName), "abc");
}

TEST(ResultFiles, AFullDiskRefusesMoreAndKeepsWhatItHas) {
  TempDir folder;
  const std::string mount = folder.path();
  if (::mount("tmpfs", mount.c_str(), "tmpfs", 0, "size=20m") != 0) {
    GTEST_SKIP() << "mounting a tmpfs needs root";
  }
  {
    ResultFiles files(mount);
    ResultDraft draft = files.open(kName).value_or_throw();
    const std::string piece(size_t{1} << 20, 'x');
    Result<void> taken;
    while (taken && draft.size() < 30 * piece.size()) taken = draft.append(piece);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.failure().kind, ErrorKind::kUnavailable);
    EXPECT_THAT(taken.failure().message, HasSubstr("no room: only"));
    EXPECT_GE(std::filesystem::space(mount).available, ResultFiles::kReserveBytes);
    const uint64_t had = draft.size();
    EXPECT_GT(had, 0u);
    ASSERT_EQ(::mount("tmpfs", mount.c_str(), "tmpfs", MS_REMOUNT, "size=40m"), 0);
    draft.append(piece).value_or_throw();
    EXPECT_EQ(draft.size(), had + piece.size());
  }
  ::umount(mount.c_str());
}

}  // namespace
}  // namespace longhaul::testing

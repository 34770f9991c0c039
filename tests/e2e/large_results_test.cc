// Results that fit no message: they come whole, once, whatever dies in the middle, and in bounded
// memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

// `megabytes` MB that do not compress, the same for every attempt at a task.
std::vector<std::string> map_of_noise(const std::string& indices, int megabytes,
                                      const std::string& where = "LONGHAUL_RESULT") {
  const std::string code = str_cat(
      "import os,random,sys\n"
      "out=open(os.environ['LONGHAUL_RESULT'],'wb') if '",
      where,
      "'=='LONGHAUL_RESULT' "
      "else sys.stdout.buffer\n"
      "r=random.Random({})\n"
      "for _ in range(",
      megabytes, "): out.write(r.randbytes(1000000))");
  return {"map", "--array", indices, "--max-result", "1000", "--", "python3", "-c", code};
}

// The same, made here: `python3` again, so that both know one random generator.
std::string digests(Cluster& cluster, const std::string& folder, int tasks, int megabytes) {
  ChildProcess& check = cluster.start_in_folder(
      {"python3", "-c",
       str_cat("import random\n"
               "for t in range(",
               tasks,
               "):\n"
               "  r=random.Random(t); f=open('",
               folder,
               "/%d'%t,'rb')\n"
               "  ok=all(f.read(1000000)==r.randbytes(1000000) for _ in range(",
               megabytes,
               "))\n"
               "  print('same' if ok and not f.read(1) else 'other')")});
  EXPECT_EQ(check.wait(), 0) << check.err();
  return check.out();
}

std::string repeated(const std::string& line, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += line + "\n";
  return text;
}

std::vector<std::string> files_under(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::recursive_directory_iterator(folder, ignored)) {
    if (entry.is_regular_file(ignored)) names.push_back(entry.path().filename());
  }
  return names;
}

bool any_part(const std::string& folder) {
  const std::vector<std::string> names = files_under(folder);
  return std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name.ends_with(".part"); });
}

// The most memory that a process ever had, in MiB.
uint64_t peak_mib(pid_t pid) {
  const std::string status = read_text(str_cat("/proc/", pid, "/status"));
  const size_t at = status.find("VmHWM:");
  return at == std::string::npos ? 0 : std::stoull(status.substr(at + 6)) >> 10;
}

TEST(LargeResults, ComeWholeFromFilesAndFromStdoutInBoundedMemory) {
  Cluster cluster({.workers = 1, .slots = 2});
  EXPECT_EQ(cluster.longhaul_to_end(map_of_noise("0-1", 150)), 0) << cluster.last().err();
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last", "--out", cluster.file("out")}), 0);
  EXPECT_EQ(digests(cluster, "out", 2, 150), repeated("same", 2));
  EXPECT_LT(peak_mib(cluster.master().pid()), 120u);
  EXPECT_LT(peak_mib(cluster.worker(0).pid()), 120u);
  EXPECT_EQ(cluster.longhaul_to_end(map_of_noise("0-1", 3, "stdout")), 0) << cluster.last().err();
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last", "--out", cluster.file("printed")}), 0);
  EXPECT_EQ(digests(cluster, "printed", 2, 3), repeated("same", 2));
}

TEST(LargeResults, AreLinesOfJsonToo) {
  Cluster cluster({.workers = 1, .slots = 2});
  // Characters of three bytes, so that pieces are cut within one.
  EXPECT_EQ(cluster.longhaul_to_end(
                {"map", "--array", "0-1", "--", "python3", "-c",
                 "import sys; sys.stdout.buffer.write(('x'*{}+'\\u20ac'*700000).encode())"}),
            0);
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last", "--jsonl"}), 0);
  std::istringstream lines(cluster.last().out());
  std::string euros;
  for (int i = 0; i < 700'000; ++i) euros += "\u20ac";
  std::string line;
  for (int task = 0; task < 2; ++task) {
    ASSERT_TRUE(std::getline(lines, line));
    const nlohmann::json parsed = nlohmann::json::parse(line);
    EXPECT_EQ(parsed["task"], task);
    EXPECT_EQ(parsed["attempt"], 1);
    EXPECT_TRUE(parsed["result"] == std::string(static_cast<size_t>(task), 'x') + euros);
  }
  EXPECT_FALSE(std::getline(lines, line));
}

TEST(LargeResults, AReaderThatStallsHoldsUpNobody) {
  Cluster cluster({.workers = 1, .slots = 2});
  EXPECT_EQ(cluster.longhaul_to_end(map_of_noise("0-1", 100)), 0) << cluster.last().err();
  // `sleep` has the pipe and reads nothing of it.
  ChildProcess& stalled = cluster.start_in_folder(
      {"sh", "-c", "'" + program("longhaul") + "' results j1 | sleep 1000"});
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--array", "0-9", "--", "echo", "{}"}), 0);
  EXPECT_EQ(cluster.longhaul_to_end({"results", "j1", "--out", cluster.file("out")}), 0);
  EXPECT_EQ(digests(cluster, "out", 2, 100), repeated("same", 2));
  EXPECT_LT(peak_mib(cluster.master().pid()), 120u);
  EXPECT_FALSE(stalled.wait(std::chrono::milliseconds(0)));
  ::kill(-stalled.pid(), SIGKILL);
}

TEST(LargeResults, MasterAndWorkerAreKilledWhileOneComes) {
  Cluster cluster({.workers = 2, .slots = 1, .keep_state = true});
  ChildProcess& map = cluster.longhaul(map_of_noise("0-5", 80));
  const std::string results = cluster.file("master-state/results");
  for (int round = 0; round < 4; ++round) {
    ASSERT_TRUE(eventually([&] {
      return any_part(results) || map.wait(std::chrono::seconds(0)).has_value();
    })) << cluster.logs();
    if (round % 2 == 0) {
      cluster.restart_master();
    } else {
      cluster.restart_worker(static_cast<size_t>(round / 2));
    }
  }
  EXPECT_EQ(map.wait(), 0) << map.err() << cluster.logs();
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last", "--out", cluster.file("out")}), 0);
  EXPECT_EQ(digests(cluster, "out", 6, 80), repeated("same", 6));
  // What attempts that did not commit have left is gone.
  EXPECT_TRUE(eventually([&] { return files_under(results).size() == 6; }));
  EXPECT_FALSE(any_part(results));
}

TEST(LargeResults, OneThatStopsHalfWayLeavesNothing) {
  Cluster cluster({.workers = 1, .slots = 1});
  ChildProcess& map = cluster.longhaul(map_of_noise("0-3", 400));
  const std::string results = cluster.file("master-state/results");
  ASSERT_TRUE(eventually([&] { return any_part(results); }));
  cluster.worker(0).kill(SIGSTOP);
  EXPECT_EQ(cluster.longhaul_to_end({"stop", "last", "--force"}), 0);
  cluster.worker(0).kill(SIGCONT);
  EXPECT_TRUE(map.wait()) << cluster.logs();
  EXPECT_TRUE(eventually([&] { return !any_part(results); }));
}

TEST(LargeResults, WaitForRoomOnTheMastersDisk) {
  TempDir disk;
  const std::string mount = disk.path();
  if (::mount("tmpfs", mount.c_str(), "tmpfs", 0, "size=40m") != 0) {
    GTEST_SKIP() << "mounting a tmpfs needs root";
  }
  {
    Cluster cluster({.workers = 1, .slots = 1, .master_state = disk.file("state")});
    ChildProcess& map = cluster.longhaul(map_of_noise("0-1", 15));
    ASSERT_TRUE(eventually([&] {
      return cluster.logs().find("no room: only") != std::string::npos;
    })) << cluster.logs();
    // The master itself is well: other work goes on.
    EXPECT_EQ(cluster.longhaul_to_end({"status", "last"}), 0);
    EXPECT_THAT(cluster.last().out(), HasSubstr("1/2"));
    ASSERT_EQ(::mount("tmpfs", mount.c_str(), "tmpfs", MS_REMOUNT, "size=200m"), 0);
    EXPECT_EQ(map.wait(), 0) << map.err() << cluster.logs();
    EXPECT_EQ(cluster.longhaul_to_end({"results", "last", "--out", cluster.file("out")}), 0);
    EXPECT_EQ(digests(cluster, "out", 2, 15), repeated("same", 2));
  }
  ::umount(mount.c_str());
}

}  // namespace
}  // namespace longhaul::testing

// Who says that the kernel ended a process for its memory: files that a test writes, then, where
// this machine lets us limit memory, the kernel itself.
#include "control/worker/process/oom_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "control/worker/process/exit_report.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class OomWatchTest : public ::testing::Test {
 protected:
  void write(const std::string& file, const std::string& text) {
    const fs::path path = folder_.file(file);
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void append(const std::string& file, const std::string& text) {
    std::ofstream(folder_.file(file), std::ios::app) << text;
  }
  OomWatch::Places places() const {
    return {folder_.file("proc"), folder_.file("cgroup"), folder_.file("kmsg")};
  }

  TempDir folder_;
};

TEST_F(OomWatchTest, NobodyKnows) {
  OomWatch watch(places());
  EXPECT_THAT(watch.witness_of(12), IsEmpty());
}

TEST_F(OomWatchTest, TheCountOfACgroupV2SpeaksOnceForEachProcess) {
  write("proc/self/cgroup", "0::/jobs.slice/worker\n");
  write("cgroup/jobs.slice/worker/memory.events", "low 0\nmax 12\noom 1\noom_kill 1\n");
  OomWatch watch(places());
  EXPECT_THAT(watch.witness_of(12), IsEmpty()) << "it was so before";
  write("cgroup/jobs.slice/worker/memory.events", "low 0\nmax 40\noom 3\noom_kill 3\n");
  EXPECT_THAT(watch.witness_of(12), HasSubstr("cgroup /jobs.slice/worker rose to 3"));
  EXPECT_THAT(watch.witness_of(13), HasSubstr("rose"));
  EXPECT_THAT(watch.witness_of(14), IsEmpty()) << "two were killed, not three";
}

TEST_F(OomWatchTest, ACountThatRoseAWhileAgoIsSomebodyElses) {
  write("proc/self/cgroup", "0::/jobs\n");
  write("cgroup/jobs/memory.events", "oom_kill 0\n");
  OomWatch watch(places());
  write("cgroup/jobs/memory.events", "oom_kill 1\n");
  watch.tick();
  watch.tick();
  EXPECT_THAT(watch.witness_of(12), IsEmpty());
  write("cgroup/jobs/memory.events", "oom_kill 2\n");
  watch.tick();
  EXPECT_THAT(watch.witness_of(12), HasSubstr("rose to 2")) << "a tick in between does not matter";
  EXPECT_THAT(watch.witness_of(13), IsEmpty());
}

TEST_F(OomWatchTest, WhereTheLogNamesPidsOfThisHostItAloneIsAsked) {
  write("kmsg", "");
  write("proc/self/cgroup", "0::/jobs\n");
  write("cgroup/jobs/memory.events", "oom_kill 0\n");
  fs::create_directories(folder_.file("proc/self/ns"));
  fs::create_symlink("pid:[4026531836]", folder_.file("proc/self/ns/pid"));
  OomWatch watch(places());
  append("kmsg", "3,2,3,-;Out of memory: Killed process 34 (train) total-vm:9kB\n");
  write("cgroup/jobs/memory.events", "oom_kill 1\n");
  EXPECT_THAT(watch.witness_of(12), IsEmpty()) << "killed by somebody while 34 ran out of memory";
  EXPECT_THAT(watch.witness_of(34), HasSubstr("kernel's log"));
}

TEST_F(OomWatchTest, TheCountOfACgroupV1) {
  write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/jobs\n0::/\n");
  write("cgroup/memory/jobs/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
  OomWatch watch(places());
  write("cgroup/memory/jobs/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
  EXPECT_THAT(watch.witness_of(12), HasSubstr("cgroup /jobs rose to 1"));
}

TEST_F(OomWatchTest, WithoutACountOfItsOwnTheHostsCounts) {
  write("proc/self/cgroup", "0::/\n");  // the root has no memory.events
  write("proc/vmstat", "nr_free_pages 7\noom_kill 4\n");
  OomWatch watch(places());
  write("proc/vmstat", "nr_free_pages 7\noom_kill 5\n");
  EXPECT_THAT(watch.witness_of(12), HasSubstr("this host rose to 5"));
}

TEST_F(OomWatchTest, TheKernelsLogNamesTheProcess) {
  write("kmsg", "6,1,2,-;Memory cgroup out of memory: Killed process 12 (old) total-vm:1kB\n");
  write("proc/self/cgroup", "0::/jobs\n");
  write("cgroup/jobs/memory.events", "oom_kill 0\n");
  OomWatch watch(places());
  append("kmsg", "3,2,3,-;Out of memory: Killed process 34 (train) total-vm:9kB\n");
  write("cgroup/jobs/memory.events", "oom_kill 1\n");
  EXPECT_THAT(watch.witness_of(34), HasSubstr("kernel's log"));
  EXPECT_THAT(watch.witness_of(12), IsEmpty()) << "an old line, and the count is 34's";
  EXPECT_THAT(watch.witness_of(3), IsEmpty());
}

TEST_F(OomWatchTest, OnlyAKillThatNobodyOfOursSentIsAskedAbout) {
  write("proc/self/cgroup", "0::/jobs\n");
  write("cgroup/jobs/memory.events", "oom_kill 0\n");
  OomWatch watch(places());
  write("cgroup/jobs/memory.events", "oom_kill 1\n");
  ProcessEnd end;
  end.exit_code = 3;
  EXPECT_THAT(out_of_memory_witness(watch, end, 12), IsEmpty());
  end.signal = SIGKILL;
  end.exit_code = 137;
  end.stopped_by_us = true;
  EXPECT_THAT(out_of_memory_witness(watch, end, 12), IsEmpty());
  end.stopped_by_us = false;
  end.signal = 0;  // a shell's
  EXPECT_THAT(out_of_memory_witness(watch, end, 12), HasSubstr("rose to 1"));
}

// --- The kernel --------------------------------------------------------------------------------

[[noreturn]] void take_memory() {
  std::vector<std::unique_ptr<char[]>> taken;
  for (;;) {
    taken.push_back(std::make_unique<char[]>(4 << 20));
    std::memset(taken.back().get(), 'x', 4 << 20);
  }
}

// In a cgroup of its own with 64 MiB: what a watch says there of a process that takes more.
[[noreturn]] void be_limited(const fs::path& group, const OomWatch::Places& places, int answer) {
  std::ofstream(group / "cgroup.procs") << ::getpid() << std::flush;
  OomWatch watch(places);
  const pid_t hog = ::fork();
  if (hog == 0) take_memory();
  int status = 0;
  ::waitpid(hog, &status, 0);
  const std::string said =
      WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? watch.witness_of(hog) : "it lived";
  (void)!::write(answer, said.data(), said.size());
  ::_exit(0);
}

std::string ask_the_kernel(const OomWatch::Places& places) {
  const fs::path root = "/sys/fs/cgroup/memory";
  const fs::path group = root / ("longhaul-test-" + std::to_string(::getpid()));
  std::error_code error;
  if (!fs::exists(root / "memory.limit_in_bytes") || !fs::create_directory(group, error)) return "";
  std::ofstream(group / "memory.limit_in_bytes") << (64 << 20) << std::flush;
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  const pid_t child = ::fork();
  if (child == 0) be_limited(group, places, ends[1]);
  ::close(ends[1]);
  char said[500] = {};
  const ssize_t size = ::read(ends[0], said, sizeof(said) - 1);
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  ::rmdir(group.c_str());
  return {said, static_cast<size_t>(std::max<ssize_t>(size, 0))};
}

TEST(OomWatchOfThisKernel, ACgroupThatIsFullIsSeen) {
  const std::string said = ask_the_kernel({"/proc", "/sys/fs/cgroup", "/no/kernel/log"});
  if (said.empty()) GTEST_SKIP() << "no memory cgroup (v1) can be made here";
  EXPECT_THAT(said, HasSubstr("oom_kill of cgroup /longhaul-test-"));
}

TEST(OomWatchOfThisKernel, ItsLogIsRead) {
  if (::access("/dev/kmsg", R_OK) != 0) GTEST_SKIP() << "the kernel's log cannot be read here";
  const std::string said = ask_the_kernel({"/proc", "/no/cgroups", "/dev/kmsg"});
  if (said.empty()) GTEST_SKIP() << "no memory cgroup (v1) can be made here";
  EXPECT_THAT(said, HasSubstr("the kernel's log says"));
}

// --- What Python leaves behind -----------------------------------------------------------------

TEST_F(OomWatchTest, AnErrorFileOfTorchElastic) {
  write("plain.json", R"({"message": "ValueError: bad shape"})");
  EXPECT_EQ(read_error_file(folder_.file("plain.json")), "ValueError: bad shape");
  write("error.json",
        R"({"message": {"message": "ValueError: bad\nsecond", "extraInfo": {"timestamp": "1"}}})");
  EXPECT_EQ(read_error_file(folder_.file("error.json")), "ValueError: bad");
  for (const char* odd : {"", "{", "[]", "{}", R"({"message": 3})", R"({"message": {}})"}) {
    write("odd.json", odd);
    EXPECT_EQ(read_error_file(folder_.file("odd.json")), "") << odd;
  }
  EXPECT_EQ(read_error_file(folder_.file("none.json")), "");
}

}  // namespace
}  // namespace longhaul::testing

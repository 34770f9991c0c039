#include "control/worker/host/host_resources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_dir.h"

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kMib = 1 << 20;

TEST(UsableGpus, ThoseThatTheWorkerMaySee) {
  const Environment some = {{"CUDA_VISIBLE_DEVICES", "3,GPU-8f2,1"}};
  EXPECT_THAT(usable_gpus(some, -1), ElementsAre("3", "GPU-8f2", "1"));
  EXPECT_THAT(usable_gpus(some, 2), ElementsAre("3", "GPU-8f2"));
  EXPECT_THAT(usable_gpus(some, 0), IsEmpty());
  EXPECT_THAT(usable_gpus(some, 4), ElementsAre("0", "1", "2", "3"));
  EXPECT_THAT(usable_gpus({{"CUDA_VISIBLE_DEVICES", ""}}, -1), IsEmpty());
  EXPECT_THAT(usable_gpus({{"CUDA_VISIBLE_DEVICES", "2,-1,3"}}, -1), ElementsAre("2"));
}

TEST(VisibleGpus, AreNamedAsTheWorkerKnowsThem) {
  EXPECT_EQ(visible_gpus({"3", "GPU-8f2", "1"}, {1, 2}), "GPU-8f2,1");
  EXPECT_EQ(visible_gpus({"3"}, {0, 1}), "3,1");
  EXPECT_EQ(visible_gpus({}, {}), "");
}

class UsableMemoryTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = folder_.file(name);
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  uint64_t usable() { return usable_memory(folder_.file("")); }

  testing::TempDir folder_;
};

TEST_F(UsableMemoryTest, IsTheHostsWhereNothingLimitsIt) {
  EXPECT_EQ(usable(), 0U) << "nothing is known";
  write("proc/meminfo", "MemFree: 1 kB\nMemTotal:       2048 kB\nSwapTotal: 9 kB\n");
  EXPECT_EQ(usable(), 2 * kMib);
  write("proc/self/cgroup", "0::/user/session\n");
  write("sys/fs/cgroup/user/session/memory.max", "max\n");
  EXPECT_EQ(usable(), 2 * kMib);
}

TEST_F(UsableMemoryTest, TheTightestGroupCounts) {
  write("proc/meminfo", "MemTotal: 1048576 kB\n");
  write("proc/self/cgroup", "0::/a/b/c\n");
  write("sys/fs/cgroup/a/memory.max", "104857600\n");
  write("sys/fs/cgroup/a/b/memory.max", "209715200\n");
  write("sys/fs/cgroup/a/b/c/memory.max", "max\n");
  EXPECT_EQ(usable(), 100 * kMib);
}

TEST_F(UsableMemoryTest, VersionOneAndAContainersOwnRoot) {
  write("proc/meminfo", "MemTotal: 1048576 kB\n");
  write("proc/self/cgroup", "6:cpu,cpuacct:/x\n5:hugetlb,memory:/docker/f00\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "52428800\n");
  EXPECT_EQ(usable(), 50 * kMib);
}

TEST(UsableMemory, OfThisHostIsKnown) {
  EXPECT_GT(usable_memory(), kMib);
}

}  // namespace
}  // namespace longhaul

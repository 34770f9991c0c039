#include "cluster/scheduling/worker_use.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(WorkerUse, AGpuIsOneHoldersAlone) {
  WorkerUse use;
  const std::vector<int> first = use.free_gpus(4, 2);
  EXPECT_THAT(first, ElementsAre(0, 1));
  use.take({2, 2, 10}, first);
  const std::vector<int> second = use.free_gpus(4, 1);
  EXPECT_THAT(second, ElementsAre(2));
  use.take({1, 1, 10}, second);
  use.give_back({2, 2, 10}, first);
  EXPECT_THAT(use.free_gpus(4, 3), ElementsAre(0, 1, 3));
  EXPECT_EQ(use.used(), (Resources{1, 1, 10}));
}

TEST(WorkerUse, UnknownGpusCountAllTheSame) {
  WorkerUse use;
  use.take({1, 2, 0}, {});
  EXPECT_EQ(use.used().gpus, 2);
  use.give_back({1, 2, 0}, {});
  EXPECT_EQ(use.used(), Resources{});
  EXPECT_THAT(use.free_gpus(0, 2), IsEmpty());
}

}  // namespace
}  // namespace longhaul

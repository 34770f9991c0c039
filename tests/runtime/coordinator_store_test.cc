#include "runtime/coordinator_store.h"

#include <gtest/gtest.h>

#include "tests/runtime/fake_coordinator.h"
#include "tests/support/cluster.h"

namespace longhaul {
namespace {

using testing::FakeCoordinator;

c10::intrusive_ptr<CoordinatorStore> store_of(std::shared_ptr<Coordinator> coordinator) {
  return c10::make_intrusive<CoordinatorStore>(std::move(coordinator), milliseconds(1000));
}

TEST(CoordinatorStore, KeepsBytesCountsAndCompares) {
  const auto store = store_of(std::make_shared<FakeCoordinator>());
  const std::vector<uint8_t> bytes{0, 255, 10, 0};
  store->set("key", bytes);
  EXPECT_EQ(store->get("key"), bytes);
  EXPECT_EQ(store->add("count", 3), 3);
  EXPECT_EQ(store->add("count", -1), 2);
  EXPECT_TRUE(store->check({"key", "count"}));
  EXPECT_FALSE(store->check({"key", "other"}));
  EXPECT_EQ(store->compareSet("count", std::string("9"), std::string("5")), "2");
  EXPECT_EQ(store->compareSet("count", std::string("2"), std::string("5")), "5");
  EXPECT_TRUE(store->deleteKey("key"));
  EXPECT_FALSE(store->deleteKey("key"));
}

TEST(CoordinatorStore, FailuresKeepTheirKindAndWords) {
  const auto store = store_of(std::make_shared<FakeCoordinator>());
  try {
    store->wait({"nobody"});
    FAIL() << "nobody sets this key";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDeadline);
    EXPECT_STREQ(error.what(), "no 'nobody' in time");
  }
  EXPECT_THROW(store->getNumKeys(), Error);
}

}  // namespace
}  // namespace longhaul

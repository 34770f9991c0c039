// The store over a Coordinator, and a world that meets in it.
#include "longhaul/collectives/coordinator_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <map>

#include "longhaul/base/mutex.h"
#include "tests/support/cluster.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

// The store of a coordinator, in memory.
class MemoryCoordinator final : public Coordinator {
 public:
  Result<Placement> join() override { return Placement{}; }

  Result<void> store_set(const std::string& key, const std::string& value) override {
    MutexLock lock(mutex_);
    values_[key] = value;
    changed_.notify_all();
    return {};
  }
  Result<std::string> store_get(const std::string& key, milliseconds timeout) override {
    const Result<void> there = store_wait({key}, timeout);
    if (!there) return there.failure();
    MutexLock lock(mutex_);
    return values_[key];
  }
  Result<void> store_wait(const std::vector<std::string>& keys, milliseconds timeout) override {
    const Instant deadline = std::chrono::steady_clock::now() + timeout;
    MutexLock lock(mutex_);
    while (!has_all(keys)) {
      if (!failing_.empty()) return Failure{ErrorKind::kPeerLost, failing_};
      if (!changed_.wait_until(mutex_, deadline)) {
        return Failure{ErrorKind::kDeadline, "no such key in time"};
      }
    }
    return {};
  }
  Result<int64_t> store_add(const std::string& key, int64_t amount) override {
    MutexLock lock(mutex_);
    const int64_t value = (values_[key].empty() ? 0 : std::stoll(values_[key])) + amount;
    values_[key] = std::to_string(value);
    changed_.notify_all();
    return value;
  }
  Result<bool> store_check(const std::vector<std::string>& keys) override {
    MutexLock lock(mutex_);
    return has_all(keys);
  }
  Result<bool> store_delete(const std::string& key) override {
    MutexLock lock(mutex_);
    return values_.erase(key) > 0;
  }
  Result<std::string> store_compare_set(const std::string& key, const std::string& expected,
                                        const std::string& desired) override {
    MutexLock lock(mutex_);
    const auto found = values_.find(key);
    if (found == values_.end() ? expected.empty() : found->second == expected) {
      values_[key] = desired;
    }
    changed_.notify_all();
    return values_.count(key) > 0 ? values_[key] : expected;
  }
  Result<ReportAnswer> report(const RankProgress&) override { return ReportAnswer(); }
  Result<void> report_fault(const RankFault&) override { return {}; }
  Result<void> leave() override { return {}; }

  void fail(const std::string& reason) {
    MutexLock lock(mutex_);
    failing_ = reason;
    changed_.notify_all();
  }

 private:
  bool has_all(const std::vector<std::string>& keys) const LONGHAUL_REQUIRES(mutex_) {
    for (const std::string& key : keys) {
      if (values_.count(key) == 0) return false;
    }
    return true;
  }

  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, std::string> values_ LONGHAUL_GUARDED_BY(mutex_);
  std::string failing_ LONGHAUL_GUARDED_BY(mutex_);
};

class CoordinatorStoreTest : public ::testing::Test {
 protected:
  c10::intrusive_ptr<c10d::Store> store(Generation generation = 1) {
    return c10::make_intrusive<CoordinatorStore>(coordinator_, generation, milliseconds(2000));
  }
  const std::shared_ptr<MemoryCoordinator> coordinator_ = std::make_shared<MemoryCoordinator>();
};

TEST_F(CoordinatorStoreTest, KeepsBytesAsTheyAre) {
  const std::vector<uint8_t> bytes{0, 255, 10, 0, 7};
  store()->set("key", bytes);
  EXPECT_EQ(store()->get("key"), bytes);
  EXPECT_EQ(store()->clone()->get("key"), bytes);
  EXPECT_EQ(store()->multiGet({"key", "key"}).size(), 2);
}

TEST_F(CoordinatorStoreTest, CountsChecksDeletesAndSwaps) {
  EXPECT_EQ(store()->add("n", 2), 2);
  EXPECT_EQ(store()->add("n", 3), 5);
  EXPECT_TRUE(store()->check({"n"}));
  EXPECT_FALSE(store()->check({"n", "m"}));
  EXPECT_EQ(store()->compareSet("m", "", "first"), "first");
  EXPECT_EQ(store()->compareSet("m", "other", "second"), "first");
  EXPECT_EQ(store()->compareSet("m", "first", "second"), "second");
  EXPECT_TRUE(store()->deleteKey("m"));
  EXPECT_FALSE(store()->deleteKey("m"));
  EXPECT_THROW(store()->getNumKeys(), Error);
}

TEST_F(CoordinatorStoreTest, GenerationsDoNotSeeEachOther) {
  store(1)->set("key", std::string("old"));
  EXPECT_FALSE(store(2)->check({"key"}));
}

TEST_F(CoordinatorStoreTest, AWaitEndsByTimeOrWhenTheJobFails) {
  const auto kind_of_wait = [&](milliseconds timeout) {
    try {
      store()->wait({"never"}, timeout);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kInternal;
  };
  EXPECT_EQ(kind_of_wait(milliseconds(20)), ErrorKind::kDeadline);
  coordinator_->fail("rank 2 exited with code 3");
  EXPECT_EQ(kind_of_wait(std::chrono::minutes(10)), ErrorKind::kPeerLost);
}

TEST_F(CoordinatorStoreTest, AWorldMeetsInItAndReduces) {
  expect_all_fine(run_ranks(3, [&](RankContext& context) {
    context.store = store();
    const auto communicator = context.connect();
    std::vector<at::Tensor> tensors{torch::ones({3})};
    communicator->process_group()->allreduce(tensors)->wait();
    EXPECT_TRUE(tensors[0].equal(torch::full({3}, 3.0)));
  }));
}

TEST_F(CoordinatorStoreTest, AJobThatFailsBeforeAllHaveMetEndsTheWaitWithItsReason) {
  const auto reports = run_ranks(2, [&](RankContext& context) {
    if (context.rank == 1) return coordinator_->fail("rank 1 exited with code 3");
    context.store = store();
    context.connect();
  });
  const CollectiveError* error = reports[0].collective_error();
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(error->kind(), ErrorKind::kPeerLost);
  EXPECT_THAT(error->what(), HasSubstr("exited with code 3"));
}

TEST_F(CoordinatorStoreTest, RanksThatDoNotComeAreNamedHereToo) {
  const auto reports = run_ranks(2, [&](RankContext& context) {
    if (context.rank == 1) return;
    context.store = store();
    context.options.timeout = milliseconds(300);
    context.connect();
  });
  const CollectiveError* error = reports[0].collective_error();
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(error->kind(), ErrorKind::kDeadline);
  EXPECT_THAT(error->what(), HasSubstr("rank 1 did not come"));
}

}  // namespace
}  // namespace longhaul::testing

#include "longhaul/membership/worker_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Now at(int64_t ms) {
  return {Instant(milliseconds(1'000'000 + ms)), static_cast<uint64_t>(1'700'000'000'000 + ms)};
}

WorkerRegistration worker(const std::string& id, const std::string& incarnation, int slots = 2) {
  return {id, incarnation, "host-" + id, "127.0.0.1", slots, 1, "0.1.0", {}, {}};
}

class WorkerTableTest : public ::testing::Test {
 protected:
  WorkerState state(const WorkerId& id) { return table_.find(id)->state; }
  WorkerTable table_{WorkerOptions()};
};

TEST_F(WorkerTableTest, SilenceMakesUnreachableAndOnlyTheLeaseMakesLost) {
  table_.register_worker(1, worker("a", "x"), at(0));
  EXPECT_THAT(table_.sweep(at(3000).instant), IsEmpty());
  EXPECT_THAT(table_.sweep(at(3001).instant), ElementsAre("a"));
  EXPECT_EQ(state("a"), WorkerState::kUnreachable);
  EXPECT_TRUE(table_.heard(1, at(4999)));
  EXPECT_EQ(state("a"), WorkerState::kReady);
  EXPECT_THAT(table_.sweep(at(9998).instant), ElementsAre("a"));
  EXPECT_EQ(state("a"), WorkerState::kUnreachable);
  EXPECT_THAT(table_.sweep(at(9999).instant), ElementsAre("a"));
  EXPECT_EQ(state("a"), WorkerState::kLost);
  EXPECT_FALSE(table_.heard(1, at(10'000)));
  EXPECT_EQ(state("a"), WorkerState::kLost);
}

TEST_F(WorkerTableTest, ABrokenStreamIsUnreachableAtOnceAndTheSameIncarnationContinues) {
  table_.register_worker(1, worker("a", "x"), at(0));
  table_.session_closed(1, false);
  EXPECT_EQ(state("a"), WorkerState::kUnreachable);
  const auto again = table_.register_worker(2, worker("a", "x"), at(4000));
  EXPECT_EQ(again.id, "a");
  EXPECT_FALSE(again.restarted);
  EXPECT_FALSE(again.returned_from_lost);
  EXPECT_EQ(state("a"), WorkerState::kReady);
  table_.session_closed(1, false);
  EXPECT_EQ(state("a"), WorkerState::kReady) << "the end of the old stream is old news";
}

TEST_F(WorkerTableTest, AReconnectBeforeTheOldStreamEndsReplacesIt) {
  table_.register_worker(1, worker("a", "x"), at(0));
  EXPECT_EQ(table_.register_worker(2, worker("a", "x"), at(10)).replaced, SessionId{1});
}

TEST_F(WorkerTableTest, AnotherIncarnationTakesTheIdOfASilentWorker) {
  table_.register_worker(1, worker("a", "x"), at(0));
  table_.session_closed(1, false);
  const auto restarted = table_.register_worker(2, worker("a", "y"), at(100));
  EXPECT_EQ(restarted.id, "a");
  EXPECT_EQ(restarted.restarted, "a");
}

TEST_F(WorkerTableTest, TwoLivingWorkersOfOneNameGetASuffix) {
  table_.register_worker(1, worker("a", "x"), at(0));
  EXPECT_EQ(table_.register_worker(2, worker("a", "y"), at(0)).id, "a-2");
  EXPECT_EQ(table_.register_worker(3, worker("a", "z"), at(0)).id, "a-3");
  EXPECT_EQ(table_.register_worker(4, worker("a", "y"), at(0)).id, "a-2") << "it reconnects";
}

TEST_F(WorkerTableTest, AGoodbyeIsFinal) {
  table_.register_worker(1, worker("a", "x"), at(0));
  table_.session_closed(1, true);
  EXPECT_EQ(state("a"), WorkerState::kLost);
  EXPECT_EQ(table_.next_deadline(), std::nullopt);
}

TEST_F(WorkerTableTest, ComingBackAfterTheLeaseIsTold) {
  table_.register_worker(1, worker("a", "x"), at(0));
  table_.sweep(at(60'000).instant);
  EXPECT_TRUE(table_.register_worker(2, worker("a", "x"), at(60'000)).returned_from_lost);
  EXPECT_EQ(state("a"), WorkerState::kReady);
}

TEST_F(WorkerTableTest, TheMastersOwnSleepIsForgiven) {
  table_.register_worker(1, worker("a", "x"), at(0));
  table_.forgive_silence(milliseconds(60'000));
  EXPECT_THAT(table_.sweep(at(60'500).instant), IsEmpty());
}

TEST_F(WorkerTableTest, NonsenseIsRefused) {
  EXPECT_NE(table_.register_worker(1, worker("a", "x", 0), at(0)).refused, "");
  EXPECT_NE(table_.register_worker(1, worker("a", "x", 1 << 30), at(0)).refused, "");
  EXPECT_NE(table_.register_worker(1, worker("a", ""), at(0)).refused, "");
  EXPECT_TRUE(table_.all().empty());
}

TEST_F(WorkerTableTest, LostWorkersDoNotPileUp) {
  for (int i = 0; i < 300; ++i) {
    table_.register_worker(i + 1, worker("w" + std::to_string(i), std::to_string(i)), at(i));
    table_.session_closed(i + 1, true);
    table_.sweep(at(i).instant);
  }
  EXPECT_EQ(table_.all().size(), WorkerOptions().keep_lost);
  EXPECT_NE(table_.find("w299"), nullptr);
}

}  // namespace
}  // namespace longhaul

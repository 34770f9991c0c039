#include "cluster/workers/worker_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Now at_ms(int64_t ms) {
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
  table_.register_worker(1, worker("a", "x"), at_ms(0));
  EXPECT_THAT(table_.sweep(at_ms(3000).instant), IsEmpty());
  EXPECT_THAT(table_.sweep(at_ms(3001).instant), ElementsAre("a"));
  EXPECT_EQ(state("a"), WorkerState::kUnreachable);
  EXPECT_TRUE(table_.heard(1, at_ms(4999)));
  EXPECT_EQ(state("a"), WorkerState::kReady);
  EXPECT_THAT(table_.sweep(at_ms(9998).instant), ElementsAre("a"));
  EXPECT_EQ(state("a"), WorkerState::kUnreachable);
  EXPECT_THAT(table_.sweep(at_ms(9999).instant), ElementsAre("a"));
  EXPECT_EQ(state("a"), WorkerState::kLost);
  EXPECT_FALSE(table_.heard(1, at_ms(10'000)));
  EXPECT_EQ(state("a"), WorkerState::kLost);
}

TEST_F(WorkerTableTest, ABrokenStreamIsUnreachableAtOnceAndTheSameIncarnationContinues) {
  table_.register_worker(1, worker("a", "x"), at_ms(0));
  table_.session_closed(1, false, at_ms(0));
  EXPECT_EQ(state("a"), WorkerState::kUnreachable);
  const auto again = table_.register_worker(2, worker("a", "x"), at_ms(4000));
  EXPECT_EQ(again.id, "a");
  EXPECT_FALSE(again.restarted);
  EXPECT_FALSE(again.returned_from_lost);
  EXPECT_EQ(state("a"), WorkerState::kReady);
  table_.session_closed(1, false, at_ms(0));
  EXPECT_EQ(state("a"), WorkerState::kReady) << "the end of the old stream is old news";
}

TEST_F(WorkerTableTest, AReconnectBeforeTheOldStreamEndsReplacesIt) {
  table_.register_worker(1, worker("a", "x"), at_ms(0));
  EXPECT_EQ(table_.register_worker(2, worker("a", "x"), at_ms(10)).replaced, SessionId{1});
}

TEST_F(WorkerTableTest, AnotherIncarnationTakesTheIdOfASilentWorker) {
  table_.register_worker(1, worker("a", "x"), at_ms(0));
  table_.session_closed(1, false, at_ms(0));
  const auto restarted = table_.register_worker(2, worker("a", "y"), at_ms(100));
  EXPECT_EQ(restarted.id, "a");
  EXPECT_EQ(restarted.restarted, "a");
}

TEST_F(WorkerTableTest, TwoLivingWorkersOfOneNameGetASuffix) {
  table_.register_worker(1, worker("a", "x"), at_ms(0));
  EXPECT_EQ(table_.register_worker(2, worker("a", "y"), at_ms(0)).id, "a-2");
  EXPECT_EQ(table_.register_worker(3, worker("a", "z"), at_ms(0)).id, "a-3");
  EXPECT_EQ(table_.register_worker(4, worker("a", "y"), at_ms(0)).id, "a-2") << "it reconnects";
}

TEST_F(WorkerTableTest, AGoodbyeIsFinal) {
  table_.register_worker(1, worker("a", "x"), at_ms(0));
  table_.session_closed(1, true, at_ms(0));
  EXPECT_EQ(state("a"), WorkerState::kLost);
  EXPECT_EQ(table_.next_deadline(), std::nullopt);
}

TEST_F(WorkerTableTest, ComingBackAfterTheLeaseIsTold) {
  table_.register_worker(1, worker("a", "x"), at_ms(0));
  table_.sweep(at_ms(60'000).instant);
  EXPECT_TRUE(table_.register_worker(2, worker("a", "x"), at_ms(60'000)).returned_from_lost);
  EXPECT_EQ(state("a"), WorkerState::kReady);
}

TEST_F(WorkerTableTest, TheMastersOwnSleepIsForgiven) {
  table_.register_worker(1, worker("a", "x"), at_ms(0));
  table_.forgive_silence(milliseconds(60'000));
  EXPECT_THAT(table_.sweep(at_ms(60'500).instant), IsEmpty());
}

TEST_F(WorkerTableTest, NonsenseIsRefused) {
  EXPECT_NE(table_.register_worker(1, worker("a", "x", 0), at_ms(0)).refused, "");
  EXPECT_NE(table_.register_worker(1, worker("a", "x", 1 << 30), at_ms(0)).refused, "");
  EXPECT_NE(table_.register_worker(1, worker("a", ""), at_ms(0)).refused, "");
  EXPECT_TRUE(table_.all().empty());
}

TEST_F(WorkerTableTest, LostWorkersDoNotPileUp) {
  for (int i = 0; i < 300; ++i) {
    table_.register_worker(i + 1, worker("w" + std::to_string(i), std::to_string(i)), at_ms(i));
    table_.session_closed(i + 1, true, at_ms(i));
    table_.sweep(at_ms(i).instant);
  }
  EXPECT_EQ(table_.all().size(), WorkerOptions().keep_lost);
  EXPECT_NE(table_.find("w299"), nullptr);
}

TEST_F(WorkerTableTest, LostForLongIsForgottenDrainedOrNot) {
  WorkerOptions options;
  options.forget_lost_after = milliseconds(60'000);
  WorkerTable table(options);
  for (const SessionId session : {1, 2, 3}) {
    table.register_worker(session, worker("w" + std::to_string(session), std::to_string(session)),
                          at_ms(0));
  }
  EXPECT_TRUE(table.drain("w1", true));
  table.session_closed(1, true, at_ms(1'000));
  table.session_closed(2, true, at_ms(2'000));
  table.heard(3, at_ms(60'900));
  EXPECT_THAT(table.sweep(at_ms(60'999).instant), IsEmpty());
  EXPECT_THAT(table.sweep(at_ms(61'000).instant), ElementsAre("w1"));
  EXPECT_EQ(table.find("w1"), nullptr);
  table.heard(3, at_ms(61'900));
  EXPECT_THAT(table.sweep(at_ms(62'000).instant), ElementsAre("w2"));
  EXPECT_NE(table.find("w3"), nullptr);
}

TEST_F(WorkerTableTest, OnlyALostOneIsForgottenAtOnce) {
  table_.register_worker(1, worker("a", "x"), at_ms(0));
  EXPECT_FALSE(table_.forget("a"));
  table_.session_closed(1, false, at_ms(0));
  EXPECT_FALSE(table_.forget("a")) << "unreachable: it may come back with all that it runs";
  table_.sweep(at_ms(60'000).instant);
  EXPECT_TRUE(table_.forget("a"));
  EXPECT_FALSE(table_.forget("a"));
  EXPECT_EQ(table_.register_worker(2, worker("a", "y"), at_ms(60'000)).id, "a");
}

TEST_F(WorkerTableTest, TextThatWouldUpsetATerminalIsRefused) {
  for (const std::string& bad : {std::string("a\nb"), std::string("\x1b[31m"), std::string("\xff"),
                                 std::string(200, 'x'), std::string("a\0b", 3)}) {
    EXPECT_NE(table_.register_worker(1, worker(bad, "x"), at_ms(0)).refused, "");
    WorkerRegistration by_host = worker("a", "x");
    by_host.host = bad;
    EXPECT_NE(table_.register_worker(1, by_host, at_ms(0)).refused, "");
  }
  EXPECT_TRUE(table_.all().empty());
}

}  // namespace
}  // namespace longhaul

#include "cluster/store/rendezvous_store.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

const Instant kStart{milliseconds(1'000'000)};

class StoreTest : public ::testing::Test {
 protected:
  std::vector<StoreReply> call(uint64_t id, const StoreCommand& command, Rank rank = 0) {
    return store_.call({1, id, rank, ""}, command, kStart);
  }
  StoreResult now(const StoreCommand& command) {
    const auto replies = call(0, command);
    EXPECT_FALSE(replies.empty());
    return replies.empty() ? StoreResult{} : replies.front().result;
  }
  static StoreCommand set(std::string key, std::string value) {
    return {StoreOperation::kSet, {std::move(key)}, {std::move(value)}, 0, {}};
  }
  static StoreCommand get(std::string key, int timeout_ms = 1000) {
    return {StoreOperation::kGet, {std::move(key)}, {}, 0, milliseconds(timeout_ms)};
  }
  static StoreCommand add(std::string key, int64_t amount) {
    return {StoreOperation::kAdd, {std::move(key)}, {}, amount, {}};
  }
  static StoreCommand compare_set(std::string expected, std::string desired) {
    return {StoreOperation::kCompareSet, {"k"}, {std::move(expected), std::move(desired)}, 0, {}};
  }

  RendezvousStore store_;
};

TEST_F(StoreTest, AWaitingGetIsAnsweredByTheSet) {
  EXPECT_TRUE(call(7, get("unique-id"), 3).empty());
  EXPECT_EQ(store_.waits_since(3), kStart);
  const auto replies = call(8, set("unique-id", std::string("\0bytes", 6)));
  ASSERT_EQ(replies.size(), 2U);
  EXPECT_EQ(replies[0].caller.call_id, 8U);
  EXPECT_EQ(replies[1].caller.call_id, 7U);
  EXPECT_EQ(replies[1].result.value, std::string("\0bytes", 6));
  EXPECT_EQ(store_.waits_since(3), std::nullopt);
}

TEST_F(StoreTest, AWaitForManyKeysEndsWithTheLastOfThemInAnyOrder) {
  const StoreCommand wait{StoreOperation::kWait, {"a", "b", "c"}, {}, 0, milliseconds(1000)};
  EXPECT_TRUE(call(1, wait, 5).empty());
  for (const char* key : {"c", "a"}) EXPECT_EQ(call(2, set(key, "x")).size(), 1U);
  EXPECT_EQ(call(3, set("b", "x")).size(), 2U);
  EXPECT_EQ(store_.wait_count(), 0U);
}

TEST_F(StoreTest, AKeyThatWasDeletedMeanwhileIsWaitedForAgain) {
  const StoreCommand wait{StoreOperation::kWait, {"a", "b"}, {}, 0, milliseconds(1000)};
  EXPECT_TRUE(call(1, wait, 5).empty());
  call(2, set("a", "x"));
  call(3, {StoreOperation::kDelete, {"a"}, {}, 0, {}});
  EXPECT_EQ(call(4, set("b", "x")).size(), 1U);
  EXPECT_EQ(store_.waits_since(5), kStart);
  EXPECT_EQ(call(5, set("a", "x")).size(), 2U);
}

TEST_F(StoreTest, ThoseThatWaitForOneKeyAreAnsweredInTheirOrder) {
  for (uint64_t id = 10; id < 20; ++id) EXPECT_TRUE(call(id, get("k"), 1).empty());
  store_.drop_session(2);
  const auto replies = call(1, set("k", "v"));
  ASSERT_EQ(replies.size(), 11U);
  for (uint64_t i = 0; i < 10; ++i) EXPECT_EQ(replies[i + 1].caller.call_id, 10 + i);
}

TEST_F(StoreTest, KeysThatAreWaitedForTakeRoomToo) {
  const std::string long_key(RendezvousStore::kMaxBytes / 2 - 1, 'k');
  EXPECT_TRUE(call(1, get(long_key + "1")).empty());
  EXPECT_TRUE(call(2, get(long_key + "2")).empty());
  const auto refused = call(3, get("one more"));
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].result.failure->kind, ErrorKind::kInvalid);
  store_.expire(kStart + milliseconds(2000));
  EXPECT_TRUE(call(4, get("one more")).empty());
}

TEST_F(StoreTest, ACallThatComesAgainIsDoneOnce) {
  const StoreCaller caller{1, 7, 0, "worker"};
  EXPECT_EQ(store_.call(caller, add("n", 2), kStart).front().result.amount, 2);
  EXPECT_EQ(store_.call({2, 7, 0, "worker"}, add("n", 2), kStart).front().result.amount, 2);
  EXPECT_EQ(store_.call({2, 8, 0, "worker"}, add("n", 2), kStart).front().result.amount, 4);
  EXPECT_EQ(store_.call({3, 7, 0, "another"}, add("n", 2), kStart).front().result.amount, 6);
}

TEST_F(StoreTest, ItComesBackFromItsRows) {
  store_.call({1, 1, 0, "w"}, set("key", std::string("a\0b", 3)), kStart);
  store_.call({1, 2, 0, "w"}, set("gone", "x"), kStart);
  store_.call({1, 3, 0, "w"}, {StoreOperation::kDelete, {"gone"}, {}, 0, {}}, kStart);
  store_.call({1, 4, 0, "w"}, add("n", 5), kStart);
  store_.call({1, 5, 0, "w"}, compare_set("", "first one"), kStart);
  std::map<std::string, std::string> rows;
  for (const StoreChange& change : store_.take_changes()) {
    rows.erase(change.key);
    if (change.value) rows[change.key] = *change.value;
  }
  store_ = RendezvousStore();
  ASSERT_TRUE(store_.restore(rows));
  EXPECT_EQ(now(get("key")).value, std::string("a\0b", 3));
  EXPECT_TRUE(call(9, get("gone")).empty());
  EXPECT_EQ(store_.call({2, 4, 0, "w"}, add("n", 5), kStart).front().result.amount, 5);
  EXPECT_EQ(now(add("n", 1)).amount, 6);
  EXPECT_EQ(store_.call({2, 5, 0, "w"}, compare_set("", "second"), kStart).front().result.value,
            "first one");
}

TEST_F(StoreTest, OldAnswersAreForgotten) {
  for (uint64_t call = 0; call < RendezvousStore::kKeptAnswers + 10; ++call) {
    store_.call({1, call, 0, "w"}, add("n", 1), kStart);
  }
  std::map<std::string, std::string> rows;
  for (const StoreChange& change : store_.take_changes()) {
    rows.erase(change.key);
    if (change.value) rows[change.key] = *change.value;
  }
  EXPECT_EQ(rows.size(), RendezvousStore::kKeptAnswers + 1);
}

TEST_F(StoreTest, AnswersAreKeptUpToASize) {
  std::map<std::string, std::string> rows;
  const std::string large(100'000, 'x');
  for (uint64_t call = 0; call < 40; ++call) {
    store_.call({1, call, 0, "w"}, compare_set(call == 0 ? "" : large, large), kStart);
    for (const StoreChange& change : store_.take_changes()) {
      rows.erase(change.key);
      if (change.value) rows[change.key] = *change.value;
    }
  }
  size_t bytes = 0;
  for (const auto& [key, value] : rows) bytes += value.size();
  EXPECT_LT(bytes, RendezvousStore::kKeptAnswerBytes + 2 * large.size());
  EXPECT_EQ(store_.call({2, 39, 0, "w"}, compare_set("", "y"), kStart).front().result.value, large)
      << "the last one is there";
}

TEST_F(StoreTest, ACallThatWasDoneIsAnsweredThoughTheStoreIsFullByNow) {
  EXPECT_EQ(store_.call({1, 1, 0, "w"}, add("n", 2), kStart).front().result.amount, 2);
  EXPECT_FALSE(now(set("a", std::string(RendezvousStore::kMaxBytes - 3, 'x'))).failure);
  const StoreResult again = store_.call({2, 1, 0, "w"}, add("n", 2), kStart).front().result;
  EXPECT_FALSE(again.failure) << again.failure->message;
  EXPECT_EQ(again.amount, 2);
}

TEST_F(StoreTest, ARowThatIsNoneOfItsOwnIsAnError) {
  const std::string zero(1, '\0');
  for (const auto& [key, value] : std::map<std::string, std::string>{{"aw" + zero + "7", "x y"},
                                                                     {"aw" + zero + "seven", "1 "},
                                                                     {"aw" + zero + "7", "1"},
                                                                     {"aw7", "1 "},
                                                                     {"zw" + zero + "7", "1 "},
                                                                     {"", ""}}) {
    const Result<void> restored = RendezvousStore().restore({{key, value}});
    ASSERT_FALSE(restored) << key;
    EXPECT_EQ(restored.failure().kind, ErrorKind::kCorrupt);
  }
}

TEST_F(StoreTest, AWaitNeedsAllItsKeys) {
  EXPECT_TRUE(call(1, {StoreOperation::kWait, {"a", "b"}, {}, 0, milliseconds(10)}).empty());
  EXPECT_EQ(call(2, set("a", "")).size(), 1U);
  EXPECT_EQ(call(3, set("b", "")).size(), 2U);
  EXPECT_EQ(call(4, {StoreOperation::kWait, {}, {}, 0, {}}).size(), 1U)
      << "no keys: nothing to wait for";
}

TEST_F(StoreTest, TimeIsOverOnlyWhenItIsOver) {
  EXPECT_TRUE(call(1, get("never", 500)).empty());
  EXPECT_EQ(store_.next_deadline(), kStart + milliseconds(500));
  EXPECT_TRUE(store_.expire(kStart + milliseconds(499)).empty());
  const auto replies = store_.expire(kStart + milliseconds(500));
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_EQ(replies[0].result.failure->kind, ErrorKind::kDeadline);
  EXPECT_EQ(replies[0].result.failure->message, "store: nobody set 'never' within 500 ms");
  EXPECT_EQ(store_.wait_count(), 0U);
}

TEST_F(StoreTest, AFailingJobLetsNobodyWait) {
  EXPECT_TRUE(call(1, get("x")).empty());
  const auto told = store_.fail("rank 2 was ended by SIGKILL");
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].result.failure->kind, ErrorKind::kPeerLost);
  EXPECT_EQ(told[0].result.failure->message, "rank 2 was ended by SIGKILL");
  EXPECT_EQ(now(get("x")).failure->kind, ErrorKind::kPeerLost);
  EXPECT_FALSE(now(set("x", "1")).failure);
  EXPECT_EQ(now(get("x")).value, "1") << "what is there can still be read";
}

TEST_F(StoreTest, ACounterIsDecimalText) {
  EXPECT_EQ(now(add("n", 3)).amount, 3);
  EXPECT_EQ(now(add("n", -5)).amount, -2);
  EXPECT_EQ(now(get("n")).value, "-2");
  EXPECT_FALSE(now(set("n", "seven")).failure);
  EXPECT_EQ(now(add("n", 1)).failure->kind, ErrorKind::kInvalid);
  EXPECT_FALSE(now(set("n", "9223372036854775807")).failure);
  EXPECT_EQ(now(add("n", 1)).failure->kind, ErrorKind::kInvalid);
}

TEST_F(StoreTest, CompareSetAsC10dDoes) {
  EXPECT_EQ(now(compare_set("old", "new")).value, "old") << "missing, expected something";
  EXPECT_EQ(now(compare_set("", "first")).value, "first");
  EXPECT_EQ(now(compare_set("other", "second")).value, "first");
  EXPECT_EQ(now(compare_set("first", "second")).value, "second");
}

TEST_F(StoreTest, CheckAndDelete) {
  EXPECT_FALSE(now(set("a", "1")).failure);
  const StoreCommand check{StoreOperation::kCheck, {"a", "b"}, {}, 0, {}};
  EXPECT_EQ(now(check).amount, 0);
  EXPECT_FALSE(now(set("b", "1")).failure);
  EXPECT_EQ(now(check).amount, 1);
  EXPECT_EQ(now({StoreOperation::kDelete, {"a"}, {}, 0, {}}).amount, 1);
  EXPECT_EQ(now({StoreOperation::kDelete, {"a"}, {}, 0, {}}).amount, 0);
  EXPECT_EQ(now(check).amount, 0);
}

TEST_F(StoreTest, ABrokenStreamIsNotAnswered) {
  EXPECT_TRUE(call(1, get("x")).empty());
  store_.drop_session(2);
  EXPECT_EQ(store_.wait_count(), 1U);
  store_.drop_session(1);
  EXPECT_EQ(store_.wait_count(), 0U);
  EXPECT_EQ(call(2, set("x", "")).size(), 1U);
}

TEST_F(StoreTest, WrongShapesAndTooMuchAreRefused) {
  for (const StoreOperation operation :
       {StoreOperation::kSet, StoreOperation::kGet, StoreOperation::kAdd, StoreOperation::kDelete,
        StoreOperation::kCompareSet}) {
    EXPECT_EQ(now({operation, {}, {}, 0, {}}).failure->kind, ErrorKind::kInvalid);
  }
  const std::string half(RendezvousStore::kMaxBytes / 2, 'x');
  EXPECT_FALSE(now(set("a", half)).failure);
  EXPECT_FALSE(now(set("a", half)).failure) << "the same again takes no more";
  EXPECT_EQ(now(set("b", half)).failure->kind, ErrorKind::kInvalid);
  EXPECT_EQ(now({StoreOperation::kDelete, {"a"}, {}, 0, {}}).amount, 1) << "room can be made";
  EXPECT_FALSE(now(set("b", half)).failure);
}

}  // namespace
}  // namespace longhaul

// The key-value store over which the ranks of one (job, generation) find each other: c10d::Store's
// operations as values. A wait is answered when its keys come, when its time is over, or at once
// when the job is failing. The cost of a call does not grow with the number of waits, but for those
// that it answers.
//
// Thread safety: none; the master's owner thread holds it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "longhaul/agent/ids.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/result.h"

namespace longhaul {

enum class StoreOperation { kSet, kGet, kWait, kAdd, kCheck, kDelete, kCompareSet };

struct StoreCommand {
  StoreOperation operation = StoreOperation::kGet;
  std::vector<std::string> keys;
  std::vector<std::string> values;  // kSet: value; kCompareSet: expected, desired
  int64_t amount = 0;               // kAdd
  milliseconds timeout{0};          // kGet, kWait
};

struct StoreResult {
  std::optional<Failure> failure;
  std::string value;   // kGet, kCompareSet
  int64_t amount = 0;  // kAdd: the new value; kCheck, kDelete: 0 or 1
};

// Names a caller and one call of it; the answer carries it back. A call that comes again with the
// same (worker, call_id), because the answer was lost, is answered as before and not done twice.
struct StoreCaller {
  uint64_t session = 0;
  uint64_t call_id = 0;
  Rank rank = 0;
  std::string worker;  // its incarnation
};

struct StoreReply {
  StoreCaller caller;
  StoreResult result;
};

// A row to be made durable, or (absent) dropped: a value, or the answer to a call that must not be
// done twice. What the bytes mean is the store's own business.
struct StoreChange {
  std::string key;
  std::optional<std::string> value;
};

constexpr std::string_view kStoreRows = "store";  // see RowChangedEffect

// What of a job's store is to be made durable.
struct StoreRows {
  bool dropped = false;  // all that there was before goes, then
  std::vector<StoreChange> changes;
};

class RendezvousStore {
 public:
  // What one job may keep here, and the keys that its calls may wait for; beyond it a call is
  // refused with kInvalid.
  static constexpr size_t kMaxBytes = size_t{64} << 20;
  static constexpr size_t kMaxWaits = 100'000;
  // Answers kept for each worker, for calls that come again. It has fewer under way at once.
  static constexpr size_t kKeptAnswers = 4096;
  // The same by size, for what compare_set answers; the last answer is always kept.
  static constexpr size_t kKeptAnswerBytes = size_t{1} << 20;

  // The answers that are ready now: to this call, and to those that waited for what it did.
  std::vector<StoreReply> call(const StoreCaller& caller, const StoreCommand& command, Instant now);

  // What calls have changed since this was last asked.
  std::vector<StoreChange> take_changes() { return std::exchange(changes_, {}); }
  // As it was, before any call: all rows that were told and not dropped. Errors: kCorrupt, of a row
  // that is none of these; the store is of no use then.
  Result<void> restore(const std::map<std::string, std::string>& rows);

  // The answers to waits whose time is over.
  std::vector<StoreReply> expire(Instant now);
  // From now on nobody waits: kPeerLost with `reason`, for those who do and those who come.
  std::vector<StoreReply> fail(const std::string& reason);
  // The session is gone, and with it whoever could be answered. Its waits are forgotten: the worker
  // makes the calls again on its next stream.
  void drop_session(uint64_t session);

  // When expire() has something to do next.
  std::optional<Instant> next_deadline() const;
  // Since when `rank` has been waiting for a key, if it does.
  std::optional<Instant> waits_since(Rank rank) const;
  size_t wait_count() const { return waits_.size(); }

 private:
  using WaitId = uint64_t;  // in the order of the calls
  struct Wait {
    StoreCaller caller;
    StoreCommand command;
    Instant since;
    Instant deadline;
    size_t seen = 0;        // so many of its keys have been there
    std::string missing{};  // one that is not
  };

  std::optional<Failure> refuse(const StoreCommand& command) const;
  StoreResult apply(const StoreCommand& command);
  StoreResult add(const std::string& key, int64_t amount);
  StoreResult compare_set(const StoreCommand& command);
  bool has_all(const std::vector<std::string>& keys) const;
  // The key that a wait goes on waiting for; nullptr: all are there.
  const std::string* missing_key(Wait* wait) const;
  void add_wait(Wait wait);
  Wait take_wait(WaitId id);
  void put(const std::string& key, std::string value);
  std::optional<StoreResult> answered_before(const StoreCaller& caller) const;
  void keep_answer(const StoreCaller& caller, const StoreResult& result);
  void answer_waiting_for(const std::string& key, std::vector<StoreReply>& replies);

  std::map<std::string, std::string> values_;
  // Of one worker.
  struct Answers {
    std::map<uint64_t, StoreResult> by_call;
    size_t bytes = 0;
  };
  std::map<std::string, Answers> answered_;
  std::vector<StoreChange> changes_;  // since take_changes()
  size_t bytes_ = 0;
  std::map<WaitId, Wait> waits_;
  WaitId last_wait_ = 0;
  size_t wait_bytes_ = 0;  // of their keys
  // Indexes of waits_: each wait is in each of them exactly once.
  std::map<std::string, std::set<WaitId>> by_missing_key_;
  std::set<std::pair<Instant, WaitId>> by_deadline_;
  std::set<std::pair<Rank, WaitId>> by_rank_;
  std::optional<std::string> failing_;  // the reason of fail(), once it was called
};

}  // namespace longhaul

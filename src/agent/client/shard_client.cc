#include "longhaul/agent/client/shard_client.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Between two questions whether somebody has given a range back, or a pass has ended.
constexpr milliseconds kAskAgain{50};

}  // namespace

ShardClient::ShardClient(AgentClient& agent, std::string dataset, const ShardPlan& plan,
                         milliseconds patience)
    : agent_(agent), dataset_(std::move(dataset)), plan_(plan), patience_(patience) {}

// An exchange that is made twice has the effect of one, so one whose answer was lost is just made
// again, whether it had reached the master or not. The caller holds the lock for all of it, up to
// `patience`: exchanges of a rank must not overlap, because each names all the leases that it
// holds.
Result<ShardAnswer> ShardClient::exchange(ShardExchange asked) {
  asked.dataset = dataset_;
  asked.plan = plan_;
  asked.held = held_;
  const Instant give_up = std::chrono::steady_clock::now() + patience_;
  while (true) {
    Result<ShardAnswer> answer = agent_.exchange_shards(asked);
    if (answer) return answer;
    const ErrorKind kind = answer.failure().kind;
    const bool away = kind == ErrorKind::kUnavailable || kind == ErrorKind::kDeadline;
    if (!away || std::chrono::steady_clock::now() >= give_up) return answer;
    std::this_thread::sleep_for(kAskAgain);
  }
}

Result<std::vector<ShardGrant>> ShardClient::take(uint32_t count, bool* over) {
  MutexLock lock(mutex_);
  ShardExchange asked;
  asked.want = count;
  Result<ShardAnswer> answer = exchange(std::move(asked));
  if (!answer) return answer.failure();
  // There are more than asked for where an earlier answer was lost, because the master tells the
  // ranges of that one again. What is beyond `count` does not go into held_, so the next exchange
  // brings it once more.
  if (answer->grants.size() > count) answer->grants.resize(count);
  for (const ShardGrant& grant : answer->grants) held_.push_back(grant.lease.epoch);
  *over = answer->over;
  return std::move(answer->grants);
}

Result<std::vector<ShardGrant>> ShardClient::lease(uint32_t count) {
  bool over = false;
  return take(count, &over);
}

Result<std::optional<ShardGrant>> ShardClient::next() {
  while (true) {
    bool over = false;
    Result<std::vector<ShardGrant>> grants = take(1, &over);
    if (!grants) return grants.failure();
    if (!grants->empty()) return std::optional<ShardGrant>(std::move(grants->front()));
    if (over) return std::optional<ShardGrant>();
    // Nothing to be had now: others hold the last ranges of the pass. The lock is free meanwhile,
    // so other threads of this rank can commit.
    std::this_thread::sleep_for(kAskAgain);
  }
}

Result<void> ShardClient::commit(const ShardGrant& grant) {
  MutexLock lock(mutex_);
  ShardExchange asked;
  asked.commits = {grant.lease};
  const Result<ShardAnswer> answer = exchange(std::move(asked));
  if (!answer) return answer.failure();
  // Whatever the outcome, the lease has ended. After an exchange that failed it stays in held_: it
  // may still be current, and the caller may commit again.
  forget(grant.lease);
  const CommitOutcome outcome =
      answer->commits.empty() ? CommitOutcome::kUnknown : answer->commits.front();
  if (outcome == CommitOutcome::kCommitted || outcome == CommitOutcome::kRepeated) return {};
  const IndexRange& range = grant.shard.range;
  return Failure{ErrorKind::kStale,
                 str_cat("dataset '", dataset_, "' pass ", grant.shard.pass, ": indices ",
                         range.first, " to ", range.first + range.count - 1,
                         " are not counted: their lease has ended, somebody else has them")};
}

Result<void> ShardClient::give_back(const ShardGrant& grant) {
  MutexLock lock(mutex_);
  ShardExchange asked;
  asked.give_backs = {grant.lease};
  const Result<ShardAnswer> answer = exchange(std::move(asked));
  if (!answer) return answer.failure();
  forget(grant.lease);
  return {};
}

Result<ShardProgress> ShardClient::progress() {
  MutexLock lock(mutex_);
  const Result<ShardAnswer> answer = exchange({});
  if (!answer) return answer.failure();
  return ShardProgress{answer->pass, answer->done_shards, answer->shards, answer->over};
}

void ShardClient::forget(const Lease& lease) {
  std::erase(held_, lease.epoch);
}

}  // namespace longhaul

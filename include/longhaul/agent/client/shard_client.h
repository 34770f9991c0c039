// Which part of a dataset this rank trains on next: leases index ranges of it from the master,
// through the rank's own worker, and commits them. Each index of each pass is committed exactly
// once, whatever dies in between and however often a call is repeated.
//
//   AgentClient& agent = ...;
//   ShardPlan plan{.dataset_size = 50'000, .shard_size = 500, .passes = 3, .shuffle_seed = 42};
//   ShardClient shards(agent, "train", plan);
//   while (std::optional<ShardGrant> grant = shards.next().value_or_throw()) {
//     const IndexRange range = grant->shard.range;      // first, first + 1, ... of pass shard.pass
//     for (uint64_t i = range.first; i < range.first + range.count; ++i) train_on(i);
//     shards.commit(*grant).value_or_throw();
//   }
//
// A range is granted to one rank at a time. It counts with the commit that names its lease; the
// lease ends with the rank: when the rank dies, its worker is lost or the gang is formed again, the
// range goes to somebody else, and a late commit of it is refused (kStale): what came of such a
// range must be thrown away. All ranks of a job that name one dataset share it, in every generation
// of the job, and must bring the same plan.
//
// Order: ranges in order, or by SeededPermutation under the pass's seed (shard_table.h); ranges
// that were given back go ahead. Pass by pass unless the plan says otherwise: then the last ranks
// of a pass are waited for.
//
// Thread safety: all methods may be called from any thread; calls are made one after the other. Two
// clients of one rank must not share a dataset.
// Time: a call waits for a worker or a master that is away for up to `patience`.
// Errors: kInvalid (a bad plan, not the dataset's plan), kStale (this generation is over; of a
// commit: the range does not count), kPeerLost (the job is being stopped), kUnavailable, kDeadline
// (nobody was there for `patience`).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "longhaul/agent/client/agent_client.h"
#include "longhaul/agent/shards.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/mutex.h"

namespace longhaul {

struct ShardProgress {
  uint32_t pass = 0;         // the first that has not ended; plan.passes after the last
  uint64_t done_shards = 0;  // of all passes
  uint64_t shards = 0;       // in all passes
  bool over = false;         // every index of every pass is committed
};

class ShardClient {
 public:
  // As long as a worker waits for its master.
  static constexpr milliseconds kPatience{3'600'000};

  // `agent` outlives this. Nothing is asked yet.
  ShardClient(AgentClient& agent, std::string dataset, const ShardPlan& plan,
              milliseconds patience = kPatience);

  // Up to `count` ranges that nobody has, at once; none does not mean that all is done: others may
  // hold the last ones of the pass, or give them back.
  Result<std::vector<ShardGrant>> lease(uint32_t count);
  // One range, waited for; nullopt when every index of every pass is committed.
  Result<std::optional<ShardGrant>> next();

  // Returns when it counts and is on the master's disk; saying it again changes nothing.
  Result<void> commit(const ShardGrant& grant);
  // The range was not used: somebody else may have it at once.
  Result<void> give_back(const ShardGrant& grant);

  Result<ShardProgress> progress();

 private:
  Result<ShardAnswer> exchange(ShardExchange asked) LONGHAUL_REQUIRES(mutex_);
  Result<std::vector<ShardGrant>> take(uint32_t count, bool* over) LONGHAUL_EXCLUDES(mutex_);
  void forget(const Lease& lease) LONGHAUL_REQUIRES(mutex_);

  AgentClient& agent_;
  const std::string dataset_;
  const ShardPlan plan_;
  const milliseconds patience_;
  Mutex mutex_;
  std::vector<LeaseEpoch> held_ LONGHAUL_GUARDED_BY(mutex_);
};

}  // namespace longhaul

// The parts of a dataset that the ranks of a job train on, as a rank and the master speak of them:
// a rank leases index ranges and commits them (agent/client/shard_client.h); the master's book of
// them (cluster/shards/shard_book.h) sees that each index of each pass counts exactly once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "longhaul/agent/lease.h"

namespace longhaul {

struct IndexRange {
  uint64_t first = 0;
  uint64_t count = 0;

  bool operator==(const IndexRange&) const = default;
};

// A range of one pass.
struct Shard {
  uint32_t pass = 0;
  IndexRange range;

  bool operator==(const Shard&) const = default;
};

struct ShardGrant {
  Shard shard;
  Lease lease;
};

// How a dataset is cut; all exchanges about one dataset say the same.
struct ShardPlan {
  uint64_t dataset_size = 0;  // indices 0 .. dataset_size - 1
  uint64_t shard_size = 0;    // indices of each range; the last one may be shorter
  uint32_t passes = 1;
  std::optional<uint64_t> shuffle_seed;  // absent: ranges in order, in every pass
  // Nothing of a pass is granted before all of the one before is committed.
  bool pass_by_pass = true;

  bool operator==(const ShardPlan&) const = default;
};

struct ShardExchange {
  std::string dataset;  // by its name in the job
  ShardPlan plan;
  // Done first, in this order; leases by (task, attempt, epoch): whose they are is known.
  std::vector<Lease> commits;
  std::vector<Lease> give_backs;
  // The leases that the rank goes on holding. One of its own that is missing here was granted by an
  // answer that never came: it is told again, before anything new.
  std::vector<LeaseEpoch> held;
  uint32_t want = 0;  // new ranges, at most
};

struct ShardAnswer {
  std::vector<CommitOutcome> commits;  // kCommitted and kRepeated: it counts
  std::vector<ShardGrant> grants;
  uint32_t pass = 0;         // the first that has not ended; plan.passes after the last
  uint64_t done_shards = 0;  // of all passes
  uint64_t shards = 0;       // in all passes
  bool over = false;         // every range of every pass counts
};

}  // namespace longhaul

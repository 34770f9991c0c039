// The datasets of one job that its ranks train on, each a ShardLedger: who holds which range, and
// which count. Ranks ask with exchanges that say what they have done, what they hold and what they
// want; an exchange may be lost, late or repeated, and its answer too, and nothing is granted or
// counted twice by that.
//
// A lease belongs to one rank of one generation. It ends with a commit, with give-back, or with the
// rank: then its range is granted again, ahead of others, and a commit of it counts no more.
//
// Thread safety: none; pure values, time comes in.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "longhaul/membership/shard_ledger.h"

namespace longhaul {

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

// What is to be made durable.
struct ShardRows {
  std::map<std::string, ShardPlan> plans;  // of datasets that are new
  std::map<std::string, std::vector<TaskRecord>> shards;
};

class ShardBook {
 public:
  // What one exchange may carry.
  static constexpr size_t kMaxDatasets = 64;
  static constexpr size_t kMaxNameBytes = 256;
  static constexpr uint32_t kMaxWant = 10'000;

  // Errors: kInvalid (a bad plan or name, a plan that is not the dataset's, too many datasets);
  // then nothing has changed.
  Result<ShardAnswer> exchange(const LeaseHolder& holder, const ShardExchange& asked,
                               LeaseEpochs& epochs, Instant now);
  // The leases of this incarnation are given back; `release_all`: everybody's.
  void release(const std::string& incarnation);
  void release_all();

  bool empty() const { return ledgers_.empty(); }
  const ShardLedger* find(const std::string& dataset) const;

  // What has changed since this was last asked.
  ShardRows take_rows();
  // Precondition: a book that has just been made. Errors: kCorrupt, kInvalid; that dataset is left
  // out.
  Result<void> restore(const std::string& dataset, const ShardPlan& plan,
                       const std::vector<TaskRecord>& rows, Instant now);

 private:
  struct Dataset {
    ShardPlan plan;
    ShardLedger ledger;
  };
  Result<Dataset*> open(const std::string& dataset, const ShardPlan& plan);

  std::map<std::string, Dataset> ledgers_;
  std::map<std::string, ShardPlan> new_plans_;
};

}  // namespace longhaul

// Which index ranges of a dataset have been trained on: the dataset is cut into shards, and each
// shard of each pass is one task of a TaskTable. A range counts only with a commit that names its
// lease, so each index is committed exactly once per pass, whatever dies in between. A pass is
// what training calls an epoch; that word is taken by leases here.
//
// Rows, commits, failures and lost workers are the table's: tasks(). Task `pass * shards + place`
// is the shard at that place of the pass, which is `place` itself, or, shuffled, the
// SeededPermutation of the shards under mix64(seed ^ mix64(pass)): reproducible by anybody who
// knows the seed, in no memory. Shards come in shuffled order; what is inside a shard is its
// reader's to shuffle.
//
// Thread safety: none; pure values, time comes in.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cluster/arrays/task_table.h"
#include "longhaul/agent/shards.h"

namespace longhaul {

struct ShardOptions {
  uint64_t dataset_size = 0;  // indices 0 .. dataset_size - 1
  uint64_t shard_size = 0;    // of each range; the last one may be shorter
  uint32_t passes = 1;
  std::optional<uint64_t> shuffle_seed;  // absent: shards in order, in every pass
  // Nothing of a pass is granted before all of the one before is committed (or quarantined: a shard
  // that nobody can read is reported and does not stop the training).
  bool pass_by_pass = true;
  TaskOptions tasks;  // stage_size is set by pass_by_pass
};

class ShardTable {
 public:
  // Errors: kInvalid, for sizes or passes of 0 and for more than kMaxTasks shards in all passes.
  static Result<ShardTable> create(const ShardOptions& options);

  std::vector<ShardGrant> grant(const LeaseHolder& holder, size_t count, LeaseEpochs& epochs,
                                Instant now);
  TaskTable& tasks() { return tasks_; }
  const TaskTable& tasks() const { return tasks_; }

  // Precondition: task < tasks().size().
  Shard shard(TaskIndex task) const;

  TaskIndex shards_per_pass() const { return shards_; }
  // The first pass that has not ended; options().passes after the last one.
  uint32_t current_pass() const { return tasks_.ended_below() / shards_; }
  // How many indices of a pass have been committed. Looks at each of its shards. Precondition:
  // pass < options().passes.
  uint64_t committed(uint32_t pass) const;
  const ShardOptions& options() const { return options_; }

 private:
  ShardTable(const ShardOptions& options, TaskIndex shards);

  ShardOptions options_;
  TaskIndex shards_;
  TaskTable tasks_;
};

}  // namespace longhaul

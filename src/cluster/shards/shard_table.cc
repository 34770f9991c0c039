#include "cluster/shards/shard_table.h"

#include <algorithm>

#include "base/check.h"
#include "base/mix.h"
#include "cluster/shards/seeded_permutation.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

TaskOptions staged(const ShardOptions& options, TaskIndex shards) {
  TaskOptions tasks = options.tasks;
  tasks.stage_size.reset();
  if (options.pass_by_pass) tasks.stage_size = shards;
  return tasks;
}

}  // namespace

Result<ShardTable> ShardTable::create(const ShardOptions& options) {
  if (options.dataset_size == 0 || options.shard_size == 0 || options.passes == 0) {
    return Failure{ErrorKind::kInvalid, str_cat("shards: dataset size ", options.dataset_size,
                                                ", shard size ", options.shard_size, ", passes ",
                                                options.passes, ": none of them may be 0")};
  }
  const uint64_t shards = (options.dataset_size - 1) / options.shard_size + 1;
  // Divided, because shards * passes may not fit 64 bits.
  if (shards > kMaxTasks / options.passes) {
    const uint64_t most = kMaxTasks / options.passes;
    const std::string hint =
        most == 0 ? str_cat("passes must be at most ", kMaxTasks)
                  : str_cat("shard size must be at least ", (options.dataset_size - 1) / most + 1);
    return Failure{ErrorKind::kInvalid, str_cat("shards: ", shards, " shards in ", options.passes,
                                                " passes are more than ", kMaxTasks, "; ", hint)};
  }
  return ShardTable(options, static_cast<TaskIndex>(shards));
}

ShardTable::ShardTable(const ShardOptions& options, TaskIndex shards)
    : options_(options),
      shards_(shards),
      tasks_(shards * options.passes, staged(options, shards)) {}

std::vector<ShardGrant> ShardTable::grant(const LeaseHolder& holder, size_t count,
                                          LeaseEpochs& epochs, Instant now) {
  std::vector<ShardGrant> grants;
  for (Lease& lease : tasks_.grant(holder, count, epochs, now)) {
    const Shard granted = shard(lease.task);
    grants.push_back({granted, std::move(lease)});
  }
  return grants;
}

Shard ShardTable::shard(TaskIndex task) const {
  LONGHAUL_CHECK(task < tasks_.size());
  const uint32_t pass = task / shards_;
  uint64_t place = task % shards_;
  if (options_.shuffle_seed) {
    place = SeededPermutation(shards_, mix64(*options_.shuffle_seed ^ mix64(pass)))(place);
  }
  const uint64_t first = place * options_.shard_size;
  return {pass, {first, std::min(options_.shard_size, options_.dataset_size - first)}};
}

uint64_t ShardTable::committed(uint32_t pass) const {
  LONGHAUL_CHECK(pass < options_.passes);
  uint64_t indices = 0;
  for (TaskIndex task = pass * shards_; task < (pass + 1) * shards_; ++task) {
    if (tasks_.state(task) == TaskState::kDone) indices += shard(task).range.count;
  }
  return indices;
}

}  // namespace longhaul

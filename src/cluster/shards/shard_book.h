// The datasets of one job that its ranks train on, each a ShardTable: who holds which range, and
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
#include <string_view>
#include <vector>

#include "cluster/shards/shard_table.h"

namespace longhaul {

constexpr std::string_view kShardRows = "datasets";  // see RowChangedEffect

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

  bool empty() const { return tables_.empty(); }
  const ShardTable* find(const std::string& dataset) const;

  // What has changed since this was last asked.
  ShardRows take_rows();
  // Precondition: a book that has just been made. Errors: kCorrupt, kInvalid; that dataset is left
  // out.
  Result<void> restore(const std::string& dataset, const ShardPlan& plan,
                       const std::vector<TaskRecord>& rows, Instant now);

 private:
  struct Dataset {
    ShardPlan plan;
    ShardTable table;
  };
  Result<Dataset*> open(const std::string& dataset, const ShardPlan& plan);

  std::map<std::string, Dataset> tables_;
  std::map<std::string, ShardPlan> new_plans_;
};

}  // namespace longhaul

// The datasets of gangs: how each is cut, and those of its shards that have been granted at least
// once, each as a task.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "cluster/cluster_state.h"
#include "control/database/engine/table.h"

namespace longhaul {

class DatasetsTable : public Table {
 public:
  // `plan` is a v1::ShardPlan.
  static constexpr std::array kMigrations{
      Migration{5,
                "CREATE TABLE datasets(job INTEGER NOT NULL, name BLOB NOT NULL,"
                " plan BLOB NOT NULL, PRIMARY KEY(job, name)) WITHOUT ROWID;"
                "CREATE TABLE shards(job INTEGER NOT NULL, task INTEGER NOT NULL,"
                " state INTEGER NOT NULL, attempt INTEGER NOT NULL, epoch INTEGER NOT NULL,"
                " worker TEXT NOT NULL, incarnation TEXT NOT NULL, failures BLOB NOT NULL,"
                " last_fault INTEGER NOT NULL, reason BLOB NOT NULL, dataset BLOB NOT NULL,"
                " PRIMARY KEY(job, dataset, task)) WITHOUT ROWID;"}};
  static constexpr std::string_view kNoun = kShardRows;

  struct PlanRow {
    uint64_t job = 0;
    std::string dataset;
    std::string plan;
  };
  struct ShardRow {
    uint64_t job = 0;
    std::string dataset;
    TaskRecord shard;
  };
  struct Rows {
    std::vector<PlanRow> plans;
    std::vector<ShardRow> shards;
    bool empty() const { return plans.empty() && shards.empty(); }
  };
  struct Dataset {
    std::string plan;
    std::vector<TaskRecord> shards;
  };
  using Kept = std::map<uint64_t, std::map<std::string, Dataset>>;  // by job and name

  Result<void> prepare(Sqlite& sqlite);
  Result<void> write(const Rows& rows);
  Result<void> drop_job(int64_t job);
  static Result<void> read(TableReader& reader, Kept* kept);
  static void collect(ClusterState& state, const std::string& job, Rows* rows);

 private:
  Statement put_plan_;
  Statement put_shard_;
  Statement drop_plans_;
  Statement drop_shards_;
};

// The datasets of one job. Returns "" or which of them cannot be read.
std::string remember_datasets(const std::map<std::string, DatasetsTable::Dataset>& datasets,
                              std::map<std::string, ShardMemory>* memory);

}  // namespace longhaul

#include "control/database/tables/datasets.h"

#include <utility>

#include "agent/client/shard_proto.h"
#include "control/database/tables/jobs.h"
#include "control/database/tables/task_columns.h"

namespace longhaul {

Result<void> DatasetsTable::prepare(Sqlite& sqlite) {
  return prepare_all(
      sqlite,
      {{&put_plan_, "INSERT OR REPLACE INTO datasets VALUES(?, ?, ?)"},
       {&put_shard_, "INSERT OR REPLACE INTO shards VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
       {&drop_plans_, "DELETE FROM datasets WHERE job=?"},
       {&drop_shards_, "DELETE FROM shards WHERE job=?"}});
}

Result<void> DatasetsTable::write(const Rows& rows) {
  for (const PlanRow& row : rows.plans) {
    Result<void> done =
        put_plan_.bind(static_cast<int64_t>(row.job)).bind(row.dataset).bind(row.plan).run();
    if (!done) return done;
  }
  for (const ShardRow& row : rows.shards) {
    Result<void> done =
        bind_task(put_shard_.bind(static_cast<int64_t>(row.job)).bind(row.shard.task), row.shard)
            .bind(row.dataset)
            .run();
    if (!done) return done;
  }
  return {};
}

Result<void> DatasetsTable::drop_job(int64_t job) {
  Result<void> done = drop_plans_.bind(job).run();
  return done ? drop_shards_.bind(job).run() : done;
}

Result<void> DatasetsTable::read(TableReader& reader, Kept* kept) {
  Result<void> done = reader.of_jobs("a dataset", "SELECT job, name, plan FROM datasets",
                                     [kept](uint64_t job, const Statement& row) {
                                       (*kept)[job][row.bytes(1)].plan = row.bytes(2);
                                     });
  if (!done) return done;
  return reader.of_jobs("a shard",
                        "SELECT job, task, state, attempt, epoch, worker, incarnation, failures,"
                        " last_fault, reason, dataset FROM shards",
                        [kept](uint64_t job, const Statement& row) {
                          (*kept)[job][row.bytes(10)].shards.push_back(task_of(row));
                        });
}

void DatasetsTable::collect(ClusterState& state, const std::string& job, Rows* rows) {
  ShardRows changed = state.take_shard_rows(job);
  for (const auto& [dataset, plan] : changed.plans) {
    rows->plans.push_back({job_number(job), dataset, to_proto(plan).SerializeAsString()});
  }
  for (auto& [dataset, shards] : changed.shards) {
    for (TaskRecord& shard : shards) {
      rows->shards.push_back({job_number(job), dataset, std::move(shard)});
    }
  }
}

std::string remember_datasets(const std::map<std::string, DatasetsTable::Dataset>& datasets,
                              std::map<std::string, ShardMemory>* memory) {
  for (const auto& [name, dataset] : datasets) {
    v1::ShardPlan plan;
    // Without a plan there are only its shards: the plan's row is gone or damaged.
    if (dataset.plan.empty() || !plan.ParseFromString(dataset.plan)) {
      return str_cat("dataset '", name, "'");
    }
    (*memory)[name] = {from_proto(plan), dataset.shards};
  }
  return "";
}

}  // namespace longhaul

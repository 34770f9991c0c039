// The rendezvous stores of jobs that have not ended.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cluster/cluster_state.h"
#include "control/database/engine/table.h"

namespace longhaul {

class StoreTable : public Table {
 public:
  static constexpr std::array kMigrations{
      Migration{1,
                "CREATE TABLE store(job INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,"
                " PRIMARY KEY(job, key)) WITHOUT ROWID;"}};
  static constexpr std::string_view kNoun = kStoreRows;

  struct Row {
    uint64_t job = 0;
    std::optional<std::string> key;  // absent: all rows of the job are dropped
    std::optional<std::string> value;
  };
  struct Rows {
    std::vector<Row> store;  // in order
    bool empty() const { return store.empty(); }
  };
  using Kept = std::map<uint64_t, std::map<std::string, std::string>>;  // by job and key

  Result<void> prepare(Sqlite& sqlite);
  Result<void> write(const Rows& rows);
  Result<void> drop_job(int64_t job) { return drop_.bind(job).run(); }
  static Result<void> read(TableReader& reader, Kept* kept);
  static void collect(ClusterState& state, const std::string& job, Rows* rows);

 private:
  Statement put_;
  Statement erase_;
  Statement drop_;
};

}  // namespace longhaul

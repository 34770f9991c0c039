// Workers. A record is the bytes of a v1::WorkerRecord (proto/longhaul/v1/record.proto).
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>

#include "cluster/cluster_state.h"
#include "control/database/engine/table.h"

namespace longhaul {

class WorkersTable : public Table {
 public:
  static constexpr std::array kMigrations{Migration{
      1, "CREATE TABLE workers(id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;"}};
  static constexpr std::string_view kNoun = kWorkerRows;

  struct Rows {
    std::map<std::string, std::optional<std::string>> workers;  // absent: it is forgotten
    bool empty() const { return workers.empty(); }
  };
  using Kept = std::map<std::string, std::string>;

  Result<void> prepare(Sqlite& sqlite);
  Result<void> write(const Rows& rows);
  static Result<void> read(TableReader& reader, Kept* kept);
  static void collect(ClusterState& state, const std::string& worker, Rows* rows);

 private:
  Statement put_;
  Statement drop_;
};

std::string to_bytes(const WorkerRecord& worker);
// `shift`: see jobs.h. Errors: kCorrupt.
Result<WorkerRecord> worker_record_from(const std::string& bytes,
                                        milliseconds shift = milliseconds(0));

}  // namespace longhaul

// Jobs. `number` is the order of submission; a record is the bytes of a v1::JobRecord
// (proto/longhaul/v1/record.proto).
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>

#include "cluster/cluster_state.h"
#include "control/database/engine/table.h"

namespace longhaul {

class JobsTable : public Table {
 public:
  static constexpr std::array kMigrations{
      Migration{1, "CREATE TABLE jobs(number INTEGER PRIMARY KEY, record BLOB NOT NULL);"}};
  static constexpr std::string_view kNoun = kJobRows;

  struct Rows {
    std::map<uint64_t, std::optional<std::string>> jobs;  // by number; absent: it is forgotten
    bool empty() const { return jobs.empty(); }
  };
  using Kept = std::map<uint64_t, std::string>;

  Result<void> prepare(Sqlite& sqlite);
  Result<void> write(const Rows& rows);
  static Result<void> read(TableReader& reader, Kept* kept);
  static void collect(ClusterState& state, const std::string& job, Rows* rows);

 private:
  Statement put_;
  Statement drop_;
  Statement raise_last_;
};

// "j12" is job 12. Precondition: it is the id of a job.
uint64_t job_number(const JobId& id);
JobId job_id(uint64_t number);

std::string to_bytes(const JobRecord& job);
// `shift` is added to moments (control/database/clock_mark.h). Errors: kCorrupt.
Result<JobRecord> job_record_from(const std::string& bytes, milliseconds shift = milliseconds(0));

}  // namespace longhaul

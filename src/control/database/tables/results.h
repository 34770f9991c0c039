// What the tasks of arrays gave: a row each, written with the row that makes the task done.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "cluster/arrays/task.h"
#include "control/database/engine/table.h"

namespace longhaul {

// What a task of an array gave.
struct ResultRow {
  uint64_t job = 0;
  TaskIndex task = 0;
  uint32_t attempt = 0;
  LeaseEpoch epoch = 0;
  uint64_t bytes = 0;        // before compression
  std::string result;        // a zstd frame
  uint64_t file_bytes = 0;   // not 0: it is in a file instead (result_files.h), of that size
  std::string damaged = {};  // not empty: the row cannot be read, and why; only job and task count
};

class ResultsTable : public Table {
 public:
  static constexpr std::array kMigrations{
      // Once for each task: a second row for it is refused.
      Migration{1,
                "CREATE TABLE results(job INTEGER NOT NULL, task INTEGER NOT NULL,"
                " attempt INTEGER NOT NULL, epoch INTEGER NOT NULL, bytes INTEGER NOT NULL,"
                " result BLOB NOT NULL, PRIMARY KEY(job, task));"},
      // Not 0: `result` is empty, and the frames are in the file of that name.
      Migration{3, "ALTER TABLE results ADD COLUMN file_bytes INTEGER NOT NULL DEFAULT 0;"},
      // Keyed as tasks are.
      Migration{6,
                "CREATE TABLE new_results(place INTEGER PRIMARY KEY, attempt INTEGER NOT NULL,"
                " epoch INTEGER NOT NULL, bytes INTEGER NOT NULL, result BLOB NOT NULL,"
                " file_bytes INTEGER NOT NULL, job INTEGER AS (place >> 32),"
                " task INTEGER AS (place & 0xffffffff));"
                "INSERT INTO new_results SELECT job << 32 | task, attempt, epoch, bytes, result,"
                " file_bytes FROM results ORDER BY job, task;"
                "DROP TABLE results;"
                "ALTER TABLE new_results RENAME TO results;"}};

  struct Rows {
    std::vector<ResultRow> results;
    bool empty() const { return results.empty(); }
  };
  struct Kept {};  // read when they are asked for

  Result<void> prepare(Sqlite& sqlite);
  Result<void> write(const Rows& rows);
  Result<void> drop_job(int64_t job) { return drop_.bind(job).run(); }
  static Result<void> read(TableReader&, Kept*) { return {}; }

 private:
  Statement put_;
  Statement drop_;
};

// A task of an array that was granted at least once, as it stands on disk, with what it gave.
struct EndedRow {
  TaskRecord task;
  std::optional<ResultRow> result;
};

// Reads results while the database writes. Thread safety: none; any number of readers at once.
class ResultReader {
 public:
  static Result<ResultReader> open(const std::string& folder);
  // Up to `limit` rows of tasks first <= task < end, in task order, with or without a result. A
  // task that was never granted by itself has none. One that is damaged comes as such, and hides no
  // other.
  Result<std::vector<EndedRow>> read(uint64_t job, TaskIndex first, TaskIndex end, size_t limit);

 private:
  explicit ResultReader(Sqlite sqlite) : sqlite_(std::move(sqlite)) {}
  Result<std::vector<EndedRow>> read_range(uint64_t job, TaskIndex first, TaskIndex end,
                                           size_t limit);
  Sqlite sqlite_;
};

}  // namespace longhaul

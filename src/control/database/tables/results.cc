#include "control/database/tables/results.h"

#include <iterator>
#include <utility>

#include "control/database/engine/files.h"
#include "control/database/tables/task_columns.h"
#include "control/database/tables/tasks.h"

namespace longhaul {
namespace {

// Of a row of `tasks` with what there is of it in `results`, from column 11 on.
EndedRow ended_row_of(uint64_t job, const Statement& row) {
  EndedRow ended{timed_task_of(row), std::nullopt};
  if (row.integer(11) == 0) return ended;
  ended.result = ResultRow{job,
                           ended.task.task,
                           static_cast<uint32_t>(row.integer(12)),
                           static_cast<LeaseEpoch>(row.integer(13)),
                           static_cast<uint64_t>(row.integer(14)),
                           row.bytes(15),
                           static_cast<uint64_t>(row.integer(16)),
                           ""};
  return ended;
}

// Nothing of it is to be used but that it is there.
void mark_damaged(EndedRow& row, uint64_t job, const std::string& why) {
  TaskRecord task;
  task.task = row.task.task;
  task.state = TaskState::kDone;
  row.task = task;
  row.result = ResultRow{job, task.task, 0, 0, 0, "", 0, why};
}

}  // namespace

Result<void> ResultsTable::prepare(Sqlite& sqlite) {
  return prepare_all(sqlite,
                     // INSERT, not REPLACE: a second result of a task is refused and ends the
                     // master, because it would mean that a task was committed twice.
                     {{&put_, "INSERT INTO results VALUES(?, ?, ?, ?, ?, ?)"},
                      {&drop_, "DELETE FROM results WHERE place>=?1<<32 AND place<(?1+1)<<32"}});
}

Result<void> ResultsTable::write(const Rows& rows) {
  for (const ResultRow& row : rows.results) {
    Result<void> done = put_.bind(place_of(row.job, row.task))
                            .bind(row.attempt)
                            .bind(static_cast<int64_t>(row.epoch))
                            .bind(static_cast<int64_t>(row.bytes))
                            .bind(row.result)
                            .bind(static_cast<int64_t>(row.file_bytes))
                            .run();
    if (!done) return done;
  }
  return {};
}

Result<ResultReader> ResultReader::open(const std::string& folder) {
  Result<Sqlite> sqlite = Sqlite::open(database_path(folder), Sqlite::Mode::kReadOnly);
  if (!sqlite) return sqlite.failure();
  return ResultReader(std::move(*sqlite));
}

// A damaged page of the file makes the query for the whole range fail. Then tasks are asked for one
// by one, so that those on other pages are found.
Result<std::vector<EndedRow>> ResultReader::read(uint64_t job, TaskIndex first, TaskIndex end,
                                                 size_t limit) {
  Result<std::vector<EndedRow>> rows = read_range(job, first, end, limit);
  if (rows || rows.failure().kind != ErrorKind::kCorrupt) return rows;
  std::vector<EndedRow> found;
  for (TaskIndex task = first; task < end && found.size() < limit; ++task) {
    Result<std::vector<EndedRow>> one = read_range(job, task, task + 1, 1);
    if (one) {
      std::move(one->begin(), one->end(), std::back_inserter(found));
    } else if (one.failure().kind == ErrorKind::kCorrupt) {
      found.emplace_back();
      found.back().task.task = task;
      mark_damaged(found.back(), job, one.failure().message);
    } else {
      return one;
    }
  }
  return found;
}

Result<std::vector<EndedRow>> ResultReader::read_range(uint64_t job, TaskIndex first, TaskIndex end,
                                                       size_t limit) {
  Result<Statement> statement = sqlite_.prepare(
      "SELECT tasks.job, tasks.task, state, tasks.attempt, tasks.epoch, worker, incarnation,"
      " failures, last_fault, reason, ran_ms, results.place IS NOT NULL, results.attempt,"
      " results.epoch, bytes, result, file_bytes FROM tasks LEFT JOIN results ON "
      "results.place=tasks.place"
      " WHERE tasks.place>=? AND tasks.place<? ORDER BY tasks.place LIMIT ?");
  if (!statement) return statement.failure();
  statement->bind(place_of(job, first)).bind(place_of(job, end)).bind(static_cast<int64_t>(limit));
  std::vector<EndedRow> rows;
  while (true) {
    const Result<bool> more = statement->next();
    if (!more) return more.failure();
    if (!*more) return rows;
    EndedRow& row = rows.emplace_back(ended_row_of(job, *statement));
    if (!statement->intact() || row.task.state == kUnreadable) {
      mark_damaged(row, job, "its row in the database is damaged");
    } else if (row.task.state == TaskState::kDone && !row.result) {
      mark_damaged(row, job, "it is not in the database");
    }
  }
}

}  // namespace longhaul

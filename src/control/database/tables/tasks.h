// Tasks of arrays that have been granted at least once. Those that were granted together for the
// first time share a row of `grants` until they move.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "cluster/cluster_state.h"
#include "control/database/engine/table.h"

namespace longhaul {

class TasksTable : public Table {
 public:
  static constexpr std::array kMigrations{
      Migration{
          1,
          "CREATE TABLE tasks(job INTEGER NOT NULL, task INTEGER NOT NULL, state INTEGER NOT NULL,"
          " attempt INTEGER NOT NULL, epoch INTEGER NOT NULL, worker TEXT NOT NULL,"
          " incarnation TEXT NOT NULL, failures BLOB NOT NULL, last_fault INTEGER NOT NULL,"
          " reason BLOB NOT NULL, PRIMARY KEY(job, task)) WITHOUT ROWID;"},
      // One integer is the key of a task, place_of(), and there is no other index: new rows go to
      // the end of one tree. A row of `grants` is `count` tasks from `task` on, with epochs from
      // `epoch` on; one that has a row in `tasks` too is as that one says, the others are leased,
      // attempt 1.
      Migration{6,
                "CREATE TABLE new_tasks(place INTEGER PRIMARY KEY, state INTEGER NOT NULL,"
                " attempt INTEGER NOT NULL, epoch INTEGER NOT NULL, worker TEXT NOT NULL,"
                " incarnation TEXT NOT NULL, failures BLOB NOT NULL, last_fault INTEGER NOT NULL,"
                " reason BLOB NOT NULL, job INTEGER AS (place >> 32),"
                " task INTEGER AS (place & 0xffffffff));"
                "INSERT INTO new_tasks SELECT job << 32 | task, state, attempt, epoch, worker,"
                " incarnation, failures, last_fault, reason FROM tasks;"
                "DROP TABLE tasks;"
                "ALTER TABLE new_tasks RENAME TO tasks;"
                "CREATE TABLE grants(place INTEGER PRIMARY KEY, count INTEGER NOT NULL,"
                " epoch INTEGER NOT NULL, worker TEXT NOT NULL, incarnation TEXT NOT NULL,"
                " job INTEGER AS (place >> 32), task INTEGER AS (place & 0xffffffff));"},
      // How long the process of a task's last attempt ran; -1: nobody said.
      Migration{7, "ALTER TABLE tasks ADD COLUMN ran_ms INTEGER NOT NULL DEFAULT -1;"}};
  static constexpr std::string_view kNoun = kTaskRows;

  struct Row {
    uint64_t job = 0;
    TaskRecord task;
  };
  struct Rows {
    std::vector<Row> tasks;
    bool empty() const { return tasks.empty(); }
  };
  using Kept = std::map<uint64_t, std::vector<TaskRecord>>;  // by job

  Result<void> prepare(Sqlite& sqlite);
  Result<void> write(const Rows& rows);
  Result<void> drop_job(int64_t job);
  static Result<void> read(TableReader& reader, Kept* kept);
  static void collect(ClusterState& state, const std::string& job, Rows* rows);

 private:
  Statement put_;
  Statement put_grant_;
  Statement drop_;
  Statement drop_grants_;
};

// Of a row of `tasks`: the columns of task_of(), and ran_ms as column 10.
TaskRecord timed_task_of(const Statement& row);

}  // namespace longhaul

#include "control/database/schema.h"

#include <array>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// "LHml": tells our databases from others (the header of the file, `file` shows it).
constexpr int64_t kApplicationId = 0x4c486d6c;

// Never edited once released: a change is one more entry.
constexpr std::array kMigrations = {
    // 1
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    // `record` is a v1::JobRecord (proto/longhaul/v1/ledger.proto). `number` is the order of
    // submission.
    "CREATE TABLE jobs(number INTEGER PRIMARY KEY, record BLOB NOT NULL);"
    // The rendezvous store of a job that has not ended.
    "CREATE TABLE store(job INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,"
    " PRIMARY KEY(job, key)) WITHOUT ROWID;"
    // `record` is a v1::WorkerRecord.
    "CREATE TABLE workers(id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;"
    // A task of an array that has been granted at least once: cluster/arrays/task.h.
    "CREATE TABLE tasks(job INTEGER NOT NULL, task INTEGER NOT NULL, state INTEGER NOT NULL,"
    " attempt INTEGER NOT NULL, epoch INTEGER NOT NULL, worker TEXT NOT NULL,"
    " incarnation TEXT NOT NULL, failures BLOB NOT NULL, last_fault INTEGER NOT NULL,"
    " reason BLOB NOT NULL, PRIMARY KEY(job, task)) WITHOUT ROWID;"
    // What a task gave, once: a second row for it is refused. `result` is a zstd frame.
    "CREATE TABLE results(job INTEGER NOT NULL, task INTEGER NOT NULL, attempt INTEGER NOT NULL,"
    " epoch INTEGER NOT NULL, bytes INTEGER NOT NULL, result BLOB NOT NULL,"
    " PRIMARY KEY(job, task));"
    // Inputs of tasks from `first` on: a v1::TaskInputs.
    "CREATE TABLE inputs(job INTEGER NOT NULL, first INTEGER NOT NULL, inputs BLOB NOT NULL,"
    " PRIMARY KEY(job, first));",
    // 2: the journal. `record` is a v1::Event.
    "CREATE TABLE events(number INTEGER PRIMARY KEY, record BLOB NOT NULL);",
    // 3: not 0: `result` is empty, and the frames are in the file of that name (result_files.h).
    "ALTER TABLE results ADD COLUMN file_bytes INTEGER NOT NULL DEFAULT 0;",
    // 4: the inputs of a job that came in chunks, before it had a number.
    "CREATE TABLE input_sets(job INTEGER PRIMARY KEY, input_set INTEGER NOT NULL);",
    // 5: `plan` is a v1::ShardPlan; a shard that has been granted at least once, as a task.
    "CREATE TABLE datasets(job INTEGER NOT NULL, name BLOB NOT NULL, plan BLOB NOT NULL,"
    " PRIMARY KEY(job, name)) WITHOUT ROWID;"
    "CREATE TABLE shards(job INTEGER NOT NULL, task INTEGER NOT NULL, state INTEGER NOT NULL,"
    " attempt INTEGER NOT NULL, epoch INTEGER NOT NULL, worker TEXT NOT NULL,"
    " incarnation TEXT NOT NULL, failures BLOB NOT NULL, last_fault INTEGER NOT NULL,"
    " reason BLOB NOT NULL, dataset BLOB NOT NULL,"
    " PRIMARY KEY(job, dataset, task)) WITHOUT ROWID;",
    // 6: one integer is the key of a task, `place` (schema.h), and neither tasks nor results have
    // another index: new rows go to the end of one tree each. Tasks that were granted together
    // for the first time share a row: `count` of them from `task` on, with epochs from `epoch` on.
    // One that has a row in `tasks` too is as that one says; the others are leased, attempt 1.
    "CREATE TABLE new_tasks(place INTEGER PRIMARY KEY, state INTEGER NOT NULL,"
    " attempt INTEGER NOT NULL, epoch INTEGER NOT NULL, worker TEXT NOT NULL,"
    " incarnation TEXT NOT NULL, failures BLOB NOT NULL, last_fault INTEGER NOT NULL,"
    " reason BLOB NOT NULL, job INTEGER AS (place >> 32), task INTEGER AS (place & 0xffffffff));"
    "INSERT INTO new_tasks SELECT job << 32 | task, state, attempt, epoch, worker, incarnation,"
    " failures, last_fault, reason FROM tasks;"
    "DROP TABLE tasks;"
    "ALTER TABLE new_tasks RENAME TO tasks;"
    "CREATE TABLE new_results(place INTEGER PRIMARY KEY, attempt INTEGER NOT NULL,"
    " epoch INTEGER NOT NULL, bytes INTEGER NOT NULL, result BLOB NOT NULL,"
    " file_bytes INTEGER NOT NULL, job INTEGER AS (place >> 32),"
    " task INTEGER AS (place & 0xffffffff));"
    "INSERT INTO new_results SELECT job << 32 | task, attempt, epoch, bytes, result, file_bytes"
    " FROM results ORDER BY job, task;"
    "DROP TABLE results;"
    "ALTER TABLE new_results RENAME TO results;"
    "CREATE TABLE grants(place INTEGER PRIMARY KEY, count INTEGER NOT NULL,"
    " epoch INTEGER NOT NULL, worker TEXT NOT NULL, incarnation TEXT NOT NULL,"
    " job INTEGER AS (place >> 32), task INTEGER AS (place & 0xffffffff));",
    // 7: jobs that were forgotten, and whose files may still lie beside the database. `meta` has
    // `life` and `seal` (life_file.h). How long the process of a task's last attempt ran; -1:
    // nobody said.
    "CREATE TABLE dropped(job INTEGER PRIMARY KEY);"
    "ALTER TABLE tasks ADD COLUMN ran_ms INTEGER NOT NULL DEFAULT -1;",
};

Result<int64_t> pragma(Database& database, const char* sql) {
  Result<Statement> statement = database.prepare(sql);
  if (!statement) return statement.failure();
  const Result<bool> row = statement->next();
  if (!row) return row.failure();
  if (!*row) return Failure{ErrorKind::kCorrupt, str_cat(sql, " says nothing")};
  return statement->integer(0);
}

}  // namespace

int schema_version() {
  return static_cast<int>(kMigrations.size());
}

Result<int64_t> version_of_ours(Database& database) {
  const Result<int64_t> application = pragma(database, "PRAGMA application_id");
  if (!application) return application.failure();
  const Result<int64_t> version = pragma(database, "PRAGMA user_version");
  if (!version) return version.failure();
  const Result<int64_t> tables = pragma(database, "SELECT count(*) FROM sqlite_schema");
  if (!tables) return tables.failure();
  if (*application != kApplicationId && (*application != 0 || *tables != 0)) {
    return Failure{ErrorKind::kInvalid, "it is a database of another program; it is left as it is"};
  }
  if (*version > schema_version()) {
    return Failure{
        ErrorKind::kInvalid,
        str_cat("its schema has version ", *version, ", this program knows ", schema_version(),
                " at most; it is left as it is. Start the newer master, or restore a "
                "backup of the older one")};
  }
  return version;
}

Result<void> migrate(Database& database, int to) {
  const Result<int64_t> version = version_of_ours(database);
  if (!version) return version.failure();
  for (int64_t next = *version; next < to; ++next) {
    const std::string sql = str_cat("BEGIN IMMEDIATE;", kMigrations[static_cast<size_t>(next)],
                                    "PRAGMA application_id=", kApplicationId,
                                    ";PRAGMA user_version=", next + 1, ";COMMIT;");
    Result<void> done = database.execute(sql.c_str());
    if (!done) return done;
  }
  return {};
}

}  // namespace longhaul

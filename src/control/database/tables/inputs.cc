#include "control/database/tables/inputs.h"

#include <utility>

#include "control/database/engine/files.h"

namespace longhaul {

Result<void> InputsTable::prepare(Sqlite& sqlite) {
  // Sets without a job are of submissions that broke off with an earlier master. This master has
  // written none yet.
  Result<void> swept = sqlite.execute(
      "DELETE FROM inputs WHERE job >= 1<<62 AND job NOT IN (SELECT input_set FROM input_sets)");
  if (!swept) return swept;
  return prepare_all(
      sqlite, {{&put_, "INSERT OR REPLACE INTO inputs VALUES(?, ?, ?)"},
               {&put_set_, "INSERT OR REPLACE INTO input_sets VALUES(?, ?)"},
               {&drop_, "DELETE FROM inputs WHERE job=?"},
               {&drop_of_set_,
                "DELETE FROM inputs WHERE job=(SELECT input_set FROM input_sets WHERE job=?)"},
               {&drop_set_, "DELETE FROM input_sets WHERE job=?"}});
}

Result<void> InputsTable::write(const Rows& rows) {
  for (const InputRow& row : rows.inputs) {
    Result<void> done =
        put_.bind(static_cast<int64_t>(row.job)).bind(row.first).bind(row.inputs).run();
    if (!done) return done;
  }
  for (const auto& [job, set] : rows.sets) {
    Result<void> done =
        put_set_.bind(static_cast<int64_t>(job)).bind(static_cast<int64_t>(set)).run();
    if (!done) return done;
  }
  for (const uint64_t set : rows.dropped) {
    Result<void> done = drop_.bind(static_cast<int64_t>(set)).run();
    if (!done) return done;
  }
  return {};
}

Result<void> InputsTable::drop_job(int64_t job) {
  // In this order: the second one looks the set up in the row that the third one deletes.
  for (Statement* drop : {&drop_, &drop_of_set_, &drop_set_}) {
    Result<void> done = drop->bind(job).run();
    if (!done) return done;
  }
  return {};
}

Result<void> InputsTable::read(TableReader& reader, Kept* kept) {
  return reader.of_jobs("where its inputs are", "SELECT job, input_set FROM input_sets",
                        [kept](uint64_t job, const Statement& row) {
                          (*kept)[job] = static_cast<uint64_t>(row.integer(1));
                        });
}

Result<void> InputReader::open() {
  if (open_) return {};
  Result<Sqlite> sqlite = Sqlite::open(database_path(folder_), Sqlite::Mode::kReadOnly);
  if (!sqlite) return sqlite.failure();
  Result<Statement> find = sqlite->prepare(
      "SELECT first, inputs FROM inputs WHERE job=? AND first<=? ORDER BY first DESC LIMIT 1");
  if (!find) return find.failure();
  // SQLite opens the WAL at the first read only. It is done now, while there are descriptors left.
  const Result<bool> tried = find->bind(int64_t{0}).bind(int64_t{0}).next();
  if (!tried) return tried.failure();
  find->reset();
  open_.emplace(Open{std::move(*sqlite), std::move(*find)});
  return {};
}

Result<InputRow> InputReader::read(uint64_t set, TaskIndex task) {
  if (Result<void> opened = open(); !opened) return opened.failure();
  Statement& find = open_->find;
  const Result<bool> found = find.bind(static_cast<int64_t>(set)).bind(task).next();
  if (!found) return found.failure();
  InputRow row{set, 0, ""};
  if (*found) {
    row.first = static_cast<TaskIndex>(find.integer(0));
    row.inputs = find.bytes(1);
  }
  const bool there = *found && find.intact();
  find.reset();
  if (there) return row;
  return Failure{ErrorKind::kCorrupt, str_cat("the input of task ", task, " cannot be read: set ",
                                              set, *found ? " is damaged" : " has no row for it")};
}

}  // namespace longhaul

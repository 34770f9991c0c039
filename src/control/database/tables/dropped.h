// Jobs that were forgotten, and whose files may still lie beside the database. A job is noted in
// the transaction that drops its rows, and its files go after that. So a master that was killed in
// between knows at its next start what to remove.
#pragma once

#include <array>
#include <vector>

#include "control/database/engine/table.h"

namespace longhaul {

class DroppedTable : public Table {
 public:
  static constexpr std::array kMigrations{
      Migration{7, "CREATE TABLE dropped(job INTEGER PRIMARY KEY);"}};

  struct Rows {
    std::vector<uint64_t> swept;  // of which no file is left
    bool empty() const { return swept.empty(); }
  };
  using Kept = std::vector<uint64_t>;

  Result<void> prepare(Sqlite& sqlite) {
    return prepare_all(sqlite, {{&note_, "INSERT OR REPLACE INTO dropped VALUES(?)"},
                                {&forget_, "DELETE FROM dropped WHERE job=?"}});
  }
  Result<void> write(const Rows& rows) {
    for (const uint64_t job : rows.swept) {
      Result<void> done = forget_.bind(static_cast<int64_t>(job)).run();
      if (!done) return done;
    }
    return {};
  }
  Result<void> drop_job(int64_t job) { return note_.bind(job).run(); }
  static Result<void> read(TableReader& reader, Kept* kept) {
    return reader.of_nobody("dropped", "SELECT job FROM dropped", [kept](const Statement& row) {
      kept->push_back(static_cast<uint64_t>(row.integer(0)));
    });
  }

 private:
  Statement note_;
  Statement forget_;
};

}  // namespace longhaul

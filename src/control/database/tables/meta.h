// Numbers by their names: how often a master was started on this database (`boot`), the highest
// number of a job ever given (`last_job`), `life` and `seal` (engine/life_file.h), and what others
// mark.
#pragma once

#include <array>
#include <map>
#include <string>

#include "control/database/engine/table.h"

namespace longhaul {

class MetaTable : public Table {
 public:
  static constexpr std::array kMigrations{Migration{
      1, "CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"}};

  struct Rows {
    std::map<std::string, int64_t> marks;
    bool empty() const { return marks.empty(); }
  };
  using Kept = std::map<std::string, int64_t>;

  Result<void> prepare(Sqlite& sqlite) {
    return prepare_all(sqlite, {{&set_, "INSERT OR REPLACE INTO meta VALUES(?, ?)"}});
  }
  Result<void> write(const Rows& rows) {
    for (const auto& [name, value] : rows.marks) {
      Result<void> done = set_.bind_text(name).bind(value).run();
      if (!done) return done;
    }
    return {};
  }
  static Result<void> read(TableReader& reader, Kept* kept) {
    return reader.of_nobody("meta", "SELECT name, value FROM meta", [kept](const Statement& row) {
      (*kept)[row.bytes(0)] = row.integer(1);
    });
  }

 private:
  Statement set_;
};

}  // namespace longhaul

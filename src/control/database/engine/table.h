// A noun on disk. Each has a class of its own, in one file under tables/, which knows the noun's
// name, its schema, what is written of it and what is read; tables/all.h lists them. The engine
// round them (database.h) has the thread, the transactions, the migrations and the errors.
//
// A table T derives from Table and has
//   static constexpr std::array kMigrations{Migration{...}...};   its schema, by versions
//   struct Rows { bool empty() const; };   what one batch is to write
//   using Kept = ...;                      all that was there when the database was opened
//   Result<void> prepare(Sqlite&);         once, before the first write
//   Result<void> write(const Rows&);       inside a transaction; all of a group or none
//   Result<void> drop_job(int64_t job);    a job is forgotten, and its rows with it
//   static Result<void> read(TableReader&, Kept*);
// and, where a cluster says that rows have changed (cluster/cluster_messages.h),
//   static constexpr std::string_view kNoun;
//   static void collect(ClusterState&, const std::string& key, Rows*);
//
// Thread safety: none; prepare(), write() and drop_job() are the database's thread's.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "control/database/engine/sqlite.h"
#include "longhaul/base/result.h"
#include "longhaul/base/strings.h"

namespace longhaul {

// What brings a table from the version before to `version`, of the whole database. Never edited
// once released: a change is one more.
struct Migration {
  int version = 0;
  const char* sql = "";
};

class Table {
 public:
  // Of a table whose rows belong to no job.
  static Result<void> drop_job(int64_t) { return {}; }

 protected:
  struct Wanted {
    Statement* statement;
    const char* sql;
  };
  static Result<void> prepare_all(Sqlite& sqlite, std::initializer_list<Wanted> statements) {
    for (const Wanted& wanted : statements) {
      Result<Statement> prepared = sqlite.prepare(wanted.sql);
      if (!prepared) return prepared.failure();
      *wanted.statement = std::move(*prepared);
    }
    return {};
  }
};

// Calls `row` for every row of a query. One that is damaged comes too, and says so.
template <typename Row>
Result<void> each_row(Sqlite& sqlite, const char* sql, Row row) {
  Result<Statement> statement = sqlite.prepare(sql);
  if (!statement) return statement.failure();
  while (true) {
    const Result<bool> more = statement->next();
    if (!more) return more.failure();
    if (!*more) return {};
    row(*statement);
  }
}

// Reads whole tables, and notes which rows cannot be read: those of a job say whose they are.
class TableReader {
 public:
  explicit TableReader(Sqlite& sqlite) : sqlite_(sqlite) {}

  // Of a table whose rows begin with the number of their job: row(job, statement). `what` is what
  // a damaged one is called.
  template <typename Row>
  Result<void> of_jobs(const char* what, const char* sql, Row row) {
    return each_row(sqlite_, sql, [&](const Statement& one) {
      const auto job = static_cast<uint64_t>(one.integer(0));
      row(job, one);
      if (!one.intact()) damage(job, what);
    });
  }
  template <typename Row>
  Result<void> of_nobody(const char* what, const char* sql, Row row) {
    return each_row(sqlite_, sql, [&](const Statement& one) {
      row(one);
      if (!one.intact()) unreadable.push_back(str_cat("a row of ", what));
    });
  }
  void damage(uint64_t job, const std::string& what) { damaged.try_emplace(job, what); }

  std::map<uint64_t, std::string> damaged;  // jobs some of whose rows cannot be read: which
  std::vector<std::string> unreadable;      // rows that belong to no job

 private:
  Sqlite& sqlite_;
};

// A task of a job, as the key of its rows. Jobs are numbered far below 2^31.
constexpr int64_t place_of(uint64_t job, uint64_t task) {
  return static_cast<int64_t>(job << 32 | task);
}
constexpr uint64_t kMostJobs = uint64_t{1} << 31;

}  // namespace longhaul

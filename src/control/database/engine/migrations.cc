#include "control/database/engine/migrations.h"

#include <algorithm>
#include <string>

#include "control/database/tables/all.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// "LHml": tells our databases from others (the header of the file, `file` shows it).
constexpr int64_t kApplicationId = 0x4c486d6c;

// Of all tables, in their order.
const std::vector<Migration>& all_migrations() {
  static const std::vector<Migration> migrations = [] {
    std::vector<Migration> all;
    for_each_table(
        [&]<typename T>() { all.insert(all.end(), T::kMigrations.begin(), T::kMigrations.end()); });
    return all;
  }();
  return migrations;
}

Result<int64_t> pragma(Sqlite& database, const char* sql) {
  Result<Statement> statement = database.prepare(sql);
  if (!statement) return statement.failure();
  const Result<bool> row = statement->next();
  if (!row) return row.failure();
  if (!*row) return Failure{ErrorKind::kCorrupt, str_cat(sql, " says nothing")};
  return statement->integer(0);
}

}  // namespace

int schema_version() {
  static const int version = [] {
    int newest = 0;
    for (const Migration& one : all_migrations()) newest = std::max(newest, one.version);
    return newest;
  }();
  return version;
}

Result<int64_t> version_of_ours(Sqlite& database) {
  const Result<int64_t> application = pragma(database, "PRAGMA application_id");
  if (!application) return application.failure();
  const Result<int64_t> version = pragma(database, "PRAGMA user_version");
  if (!version) return version.failure();
  const Result<int64_t> tables = pragma(database, "SELECT count(*) FROM sqlite_schema");
  if (!tables) return tables.failure();
  // An empty file without an id is a new database.
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

Result<void> migrate(Sqlite& database, int to) {
  const Result<int64_t> version = version_of_ours(database);
  if (!version) return version.failure();
  for (int64_t next = *version; next < to; ++next) {
    std::string changes;
    for (const Migration& one : all_migrations()) {
      if (one.version == next + 1) changes += one.sql;
    }
    // The changes and the number of the version are one transaction: a crash leaves one version or
    // the next.
    const std::string sql =
        str_cat("BEGIN IMMEDIATE;", changes, "PRAGMA application_id=", kApplicationId,
                ";PRAGMA user_version=", next + 1, ";COMMIT;");
    Result<void> done = database.execute(sql.c_str());
    if (!done) return done;
  }
  return {};
}

}  // namespace longhaul

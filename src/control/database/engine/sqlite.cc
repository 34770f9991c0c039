#include "control/database/engine/sqlite.h"

#include <sqlite3.h>

#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {

void Sqlite::Close::operator()(sqlite3* database) const {
  sqlite3_close_v2(database);
}

void Statement::Finalize::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

namespace {

// Which of SQLite's errors may go away by themselves, which mean damage, and which are bugs of
// ours. What is in no list (busy, I/O errors, no memory) may go away.
ErrorKind kind_of(int code) {
  switch (code & 0xff) {
    case SQLITE_FULL:
      return ErrorKind::kExhausted;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
      return ErrorKind::kCorrupt;
    case SQLITE_CONSTRAINT:
    case SQLITE_ERROR:
    case SQLITE_MISMATCH:
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
    case SQLITE_TOOBIG:
      return ErrorKind::kInternal;
    default:
      return ErrorKind::kUnavailable;
  }
}

}  // namespace

Failure Sqlite::failure(const std::string& what) const {
  return {kind_of(sqlite3_extended_errcode(handle_.get())),
          str_cat(path_, ": ", what, ": ", sqlite3_errmsg(handle_.get()))};
}

Result<Sqlite> Sqlite::open(const std::string& path, Mode mode) {
  // Nobody asks SQLite how much memory it uses; counting would lock a mutex at every allocation.
  // Refused, harmlessly, when SQLite is in use already.
  static const int uncounted = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  static_cast<void>(uncounted);
  Sqlite database;
  database.path_ = path;
  sqlite3* handle = nullptr;
  // A connection belongs to one thread at a time: it needs no mutex of its own.
  const int flags = SQLITE_OPEN_NOMUTEX |
                    (mode == Mode::kReadOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) |
                    (mode == Mode::kReadWriteCreate ? SQLITE_OPEN_CREATE : 0);
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  database.handle_.reset(handle);
  if (code != SQLITE_OK) return database.failure("cannot be opened");
  // How long a statement waits for a lock that another connection holds.
  sqlite3_busy_timeout(handle, 5'000);
  return database;
}

Result<void> Sqlite::execute(const char* sql) {
  if (sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return failure(sql);
}

Result<Statement> Sqlite::prepare(std::string_view sql) {
  Statement statement;
  sqlite3_stmt* handle = nullptr;
  if (sqlite3_prepare_v3(handle_.get(), sql.data(), static_cast<int>(sql.size()),
                         SQLITE_PREPARE_PERSISTENT, &handle, nullptr) != SQLITE_OK) {
    return failure(std::string(sql));
  }
  statement.handle_.reset(handle);
  return statement;
}

int64_t Sqlite::changes() const {
  return sqlite3_changes64(handle_.get());
}

Result<void> Sqlite::copy_to(const std::string& path) {
  Result<Sqlite> target = open(path, Mode::kReadWriteCreate);
  if (!target) return target.failure();
  sqlite3_backup* backup =
      sqlite3_backup_init(target->handle_.get(), "main", handle_.get(), "main");
  if (backup == nullptr) return target->failure("cannot be written");
  // All pages in one step, under one read lock: the copy is of one moment, and a master that writes
  // meanwhile does not make it begin anew.
  const int code = sqlite3_backup_step(backup, -1);
  sqlite3_backup_finish(backup);
  if (code != SQLITE_DONE) return target->failure("cannot be written");
  return {};
}

Statement& Statement::bind(int64_t value) {
  sqlite3_bind_int64(handle_.get(), ++bound_, value);
  return *this;
}

Statement& Statement::bind(std::string_view bytes) {
  // SQLite takes a null pointer for NULL, which the schema refuses, and not for an empty blob.
  sqlite3_bind_blob64(handle_.get(), ++bound_, bytes.empty() ? "" : bytes.data(), bytes.size(),
                      SQLITE_STATIC);
  return *this;
}

Statement& Statement::bind_text(std::string_view text) {
  sqlite3_bind_text64(handle_.get(), ++bound_, text.empty() ? "" : text.data(), text.size(),
                      SQLITE_STATIC, SQLITE_UTF8);
  return *this;
}

Result<bool> Statement::next() {
  intact_ = true;
  const int code = sqlite3_step(handle_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  sqlite3* database = sqlite3_db_handle(handle_.get());
  Failure failure{kind_of(code),
                  str_cat(sqlite3_db_filename(database, "main"), ": ", sqlite3_errmsg(database))};
  reset();
  return failure;
}

Result<void> Statement::run() {
  const Result<bool> done = next();
  if (!done) return done.failure();
  reset();
  return {};
}

void Statement::reset() {
  sqlite3_reset(handle_.get());
  sqlite3_clear_bindings(handle_.get());
  bound_ = 0;
}

int64_t Statement::integer(int column) const {
  if (sqlite3_column_type(handle_.get(), column) != SQLITE_INTEGER) intact_ = false;
  return sqlite3_column_int64(handle_.get(), column);
}

std::string Statement::bytes(int column) const {
  const int type = sqlite3_column_type(handle_.get(), column);
  if (type != SQLITE_BLOB && type != SQLITE_TEXT) intact_ = false;
  const void* data = sqlite3_column_blob(handle_.get(), column);
  const auto size = static_cast<size_t>(sqlite3_column_bytes(handle_.get(), column));
  if (data == nullptr && size > 0) intact_ = false;  // no memory for it
  return data == nullptr ? std::string() : std::string(static_cast<const char*>(data), size);
}

}  // namespace longhaul

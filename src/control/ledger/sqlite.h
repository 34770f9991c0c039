// SQLite behind two small classes: a connection and a prepared statement. Only this folder includes
// sqlite3.h.
//
// Thread safety: none; a connection and its statements belong to one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "longhaul/base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace longhaul {

class Statement;

class Database {
 public:
  enum class Mode { kReadOnly, kReadWriteCreate };

  // Errors: kUnavailable, with SQLite's words and the path.
  static Result<Database> open(const std::string& path, Mode mode);

  // One or more statements without results.
  Result<void> execute(const char* sql);
  Result<Statement> prepare(std::string_view sql);
  // How many rows the last statement changed.
  int64_t changes() const;
  // A consistent copy, also while somebody else writes. Errors: kUnavailable.
  Result<void> copy_to(const std::string& path);
  Failure failure(const std::string& what) const;

 private:
  friend class Statement;
  struct Close {
    void operator()(sqlite3* database) const;
  };
  std::unique_ptr<sqlite3, Close> handle_;
  std::string path_;
};

// bind() in order, then next() until it says false; reset() before it is bound again.
class Statement {
 public:
  Statement& bind(int64_t value);
  // Bytes, or text; they must live until the statement has run.
  Statement& bind(std::string_view bytes);
  Statement& bind_text(std::string_view text);

  // True: there is a row. False: it is done.
  Result<bool> next();
  // For statements without rows: binds are consumed, the statement can be bound again.
  Result<void> run();
  void reset();

  int64_t integer(int column) const;
  std::string bytes(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
  int bound_ = 0;
};

}  // namespace longhaul

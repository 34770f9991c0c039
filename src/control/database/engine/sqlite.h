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

class Sqlite {
 public:
  enum class Mode { kReadOnly, kReadWrite, kReadWriteCreate };

  // Errors of this class and of its statements, with SQLite's words and the path: kExhausted (the
  // disk is full: later it may do), kUnavailable (it cannot be opened or read just now), kCorrupt
  // (the file is damaged), kInternal (a row that the schema refuses, or a statement that is wrong).
  static Result<Sqlite> open(const std::string& path, Mode mode);

  // One or more statements without results.
  Result<void> execute(const char* sql);
  Result<Statement> prepare(std::string_view sql);
  // How many rows the last statement changed.
  int64_t changes() const;
  // A consistent copy, also while somebody else writes.
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

  // Of the row that next() has found. A column that holds another kind of value reads as 0 or "",
  // and the row is not intact(): some of it was damaged, and none of it is to be used.
  int64_t integer(int column) const;
  std::string bytes(int column) const;
  bool intact() const { return intact_; }

 private:
  friend class Sqlite;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
  int bound_ = 0;
  mutable bool intact_ = true;
};

}  // namespace longhaul

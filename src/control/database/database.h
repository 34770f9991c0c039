// The durable state of a master: one SQLite database in WAL mode, written by one thread that groups
// what has come since into one transaction (group commit). A batch is whole on disk or not there at
// all, and batches become durable in the order of write().
//
// A full disk loses nothing: the batch is tried again until it is taken, and trouble() says why it
// is not, so that the master can refuse new work meanwhile. It may be full when the database is
// opened, too: then all is read, and the first batch waits. A damaged database is another thing:
// trying again would not help, so nothing is written any more and on_broken() is told.
//
// Thread safety: write(), trouble() and on_broken() from any thread; callbacks run on the
// database's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/queue.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "cluster/cluster_messages.h"
#include "control/database/engine/life_file.h"
#include "control/database/engine/sqlite.h"
#include "control/database/tables/all.h"
#include "longhaul/base/mutex.h"

namespace longhaul {

// Rows to write, whole, of any tables: batch.of<JobsTable>().jobs[7] = "...". A row with the same
// key is replaced.
class DatabaseBatch {
 public:
  template <typename T>
  typename T::Rows& of() {
    return std::get<Of<T>>(rows_).rows;
  }
  template <typename T>
  const typename T::Rows& of() const {
    return std::get<Of<T>>(rows_).rows;
  }
  bool empty() const {
    return std::apply([](const auto&... of) { return (of.rows.empty() && ...); }, rows_);
  }

 private:
  template <typename T>
  struct Of {
    typename T::Rows rows;
  };
  template <typename T>
  struct All;
  template <typename... T>
  struct All<std::tuple<T...>> {
    using Rows = std::tuple<Of<T>...>;
  };
  All<Tables>::Rows rows_;
};

// All that was durable when the database was opened, but for rows that cannot be read.
class DatabaseContents {
 public:
  template <typename T>
  typename T::Kept& of() {
    return std::get<Of<T>>(kept_).kept;
  }
  template <typename T>
  const typename T::Kept& of() const {
    return std::get<Of<T>>(kept_).kept;
  }

  uint64_t boot = 0;  // how often this database has been opened by a master, this time included
  uint64_t life = 0;  // of the state folder (engine/life_file.h)
  std::optional<std::string> new_life;  // this start began it: why
  uint64_t last_job = 0;                // the highest number ever given, also in an earlier life
  std::map<uint64_t, std::string> damaged;  // jobs some of whose rows cannot be read: which
  std::vector<std::string> unreadable;      // rows that belong to no job

 private:
  template <typename T>
  struct Of {
    typename T::Kept kept;
  };
  template <typename T>
  struct All;
  template <typename... T>
  struct All<std::tuple<T...>> {
    using Kept = std::tuple<Of<T>...>;
  };
  All<Tables>::Kept kept_;
};

// Adds to `batch` what the table of this row's noun is to write. A noun that has no table is
// ignored.
void collect(const RowChangedEffect& row, ClusterState& state, DatabaseBatch* batch);

class Database {
 public:
  // Opens, or makes, FOLDER/master.db; the folder is made too, for this user only. Errors: kInvalid
  // (another master holds the folder, a database of a newer or of another program), kUnavailable
  // (the disk), kExhausted (it is full, and there was no database of this version yet), kCorrupt.
  static Result<std::unique_ptr<Database>> open(const std::string& folder,
                                                DatabaseContents* contents);
  // Writes what has come, unless the disk does not take it.
  ~Database();

  // `durable` is called once the batch is on disk, after those of all earlier batches.
  void write(DatabaseBatch batch, std::function<void()> durable);

  // Why nothing can be written at the moment; nullopt when all is well. kExhausted: it is tried
  // again. kCorrupt, kInternal: never again.
  std::optional<Failure> trouble() const;
  // Called once, should nothing ever be written again.
  void on_broken(const std::function<void(const Failure&)>& callback);

  // A consistent copy of a folder's database in the file `path`, which must not exist; the master
  // may be running; results that are files go to PATH.results (to be called `results` beside the
  // database when it is used). Errors: kInvalid, kUnavailable.
  static Result<void> backup(const std::string& folder, const std::string& path);

 private:
  struct Entry {
    DatabaseBatch batch;
    std::function<void()> durable;
  };
  Database(UniqueFd lock, std::string folder, LifeFile life);
  void run();
  bool write_group(const std::vector<Entry>& group);
  Result<void> get_ready();
  Result<void> commit(const std::vector<Entry>& entries);
  Result<void> write_rows(const DatabaseBatch& batch);
  void set_trouble(std::optional<Failure> why);

  // Keeps other masters out of the folder for as long as this object lives.
  UniqueFd lock_;
  const std::string folder_;
  // The database's thread's, from its first batch on.
  LifeFile life_;
  std::optional<Sqlite> sqlite_;
  Tables tables_;
  bool ready_ = false;  // what the tables write is prepared
  Queue<Entry> entries_;
  mutable Mutex mutex_;
  std::optional<Failure> trouble_ LONGHAUL_GUARDED_BY(mutex_);
  std::function<void(const Failure&)> on_broken_ LONGHAUL_GUARDED_BY(mutex_);
  Thread thread_;  // last: it starts when all else is there
};

}  // namespace longhaul

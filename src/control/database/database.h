// The durable state of a master: one SQLite database in WAL mode, written by one thread that groups
// what has come since into one transaction (group commit). A batch is whole on disk or not there at
// all, and batches become durable in the order of write().
//
// A full disk loses nothing: the batch is tried again until it is taken, and trouble() says why it
// is not, so that the master can refuse new work meanwhile. It may be full when the ledger is
// opened, too: then all is read, and the first batch waits. A damaged database is another thing:
// trying again would not help, so nothing is written any more and on_broken() is told.
//
// Thread safety: write(), trouble() and on_broken() from any thread; callbacks run on the ledger's
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/queue.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "cluster/arrays/task.h"
#include "control/database/life_file.h"
#include "control/database/sqlite.h"
#include "longhaul/base/mutex.h"

namespace longhaul {

// What a task of an array gave.
struct ResultRow {
  uint64_t job = 0;
  TaskIndex task = 0;
  uint32_t attempt = 0;
  LeaseEpoch epoch = 0;
  uint64_t bytes = 0;        // before compression
  std::string result;        // a zstd frame
  uint64_t file_bytes = 0;   // not 0: it is in a file instead (result_files.h), of that size
  std::string damaged = {};  // not empty: the row cannot be read, and why; only job and task count
};

// Inputs of an array's tasks from `first` on: of a job, or of a set of them that a job refers to.
// Numbers of sets begin here.
constexpr uint64_t kFirstInputSet = uint64_t{1} << 62;
struct InputRow {
  uint64_t job = 0;  // or the set
  TaskIndex first = 0;
  std::string inputs;  // a v1::TaskInputs
};

// A dataset of a job: its plan as a v1::ShardPlan, and those of its shards that were granted once.
struct DatasetRow {
  std::string plan;
  std::vector<TaskRecord> shards;
};

// Rows to write, whole: a row with the same key is replaced, one without a record is dropped.
struct LedgerBatch {
  std::map<uint64_t, std::optional<std::string>> jobs;  // by number
  std::map<std::string, std::optional<std::string>> workers;
  struct StoreRow {
    uint64_t job = 0;
    std::optional<std::string> key;  // absent: all rows of the job are dropped
    std::optional<std::string> value;
  };
  std::vector<StoreRow> store;  // in order
  struct TaskRow {
    uint64_t job = 0;
    TaskRecord task;
  };
  std::vector<TaskRow> tasks;
  std::vector<ResultRow> results;  // new ones: a second result of a task is an error
  std::vector<InputRow> inputs;
  std::map<uint64_t, std::string> events;   // by number
  uint64_t first_event = 0;                 // those before it are dropped
  std::map<uint64_t, uint64_t> input_sets;  // job -> its set
  std::vector<uint64_t> dropped_inputs;     // sets that no job will refer to
  struct PlanRow {
    uint64_t job = 0;
    std::string dataset;
    std::string plan;
  };
  std::vector<PlanRow> plans;
  struct ShardRow {
    uint64_t job = 0;
    std::string dataset;
    TaskRecord shard;
  };
  std::vector<ShardRow> shards;
  std::map<std::string, int64_t> marks;  // numbers of `meta`, as they are
  std::vector<uint64_t> swept;           // dropped jobs of which no file is left

  bool empty() const {
    return jobs.empty() && workers.empty() && store.empty() && tasks.empty() && results.empty() &&
           inputs.empty() && input_sets.empty() && dropped_inputs.empty() && plans.empty() &&
           shards.empty() && events.empty() && marks.empty() && swept.empty();
  }
};

// All that was durable when the database was opened, but for rows that cannot be read.
struct LedgerContents {
  uint64_t boot = 0;  // how often this database has been opened by a master, this time included
  uint64_t life = 0;  // of the state folder (life_file.h)
  std::optional<std::string> new_life;  // this start began it: why
  uint64_t last_job = 0;                // the highest number ever given, also in an earlier life
  std::map<std::string, int64_t> marks;
  std::map<uint64_t, std::string> damaged;  // jobs some of whose rows cannot be read: which
  std::vector<std::string> unreadable;      // rows that belong to no job
  // Jobs that were forgotten since the last start: what lies of them in files may go.
  std::vector<uint64_t> dropped;
  std::map<uint64_t, std::string> jobs;
  std::map<std::string, std::string> workers;
  std::map<uint64_t, std::map<std::string, std::string>> stores;
  std::map<uint64_t, std::vector<TaskRecord>> tasks;
  std::map<uint64_t, std::string> events;
  std::map<uint64_t, uint64_t> input_sets;                         // job -> its set
  std::map<uint64_t, std::map<std::string, DatasetRow>> datasets;  // by name
};

// A task of an array that was granted at least once, as it stands on disk, with what it gave.
struct EndedRow {
  TaskRecord task;
  std::optional<ResultRow> result;
};

// Reads results while the ledger writes. Thread safety: none; any number of readers at once.
class ResultReader {
 public:
  static Result<ResultReader> open(const std::string& folder);
  // Up to `limit` rows of tasks first <= task < end, in task order, with or without a result. A
  // task that was never granted by itself has none. One that is damaged comes as such, and hides no
  // other.
  Result<std::vector<EndedRow>> read(uint64_t job, TaskIndex first, TaskIndex end, size_t limit);

 private:
  explicit ResultReader(Database database) : database_(std::move(database)) {}
  Result<std::vector<EndedRow>> read_range(uint64_t job, TaskIndex first, TaskIndex end,
                                           size_t limit);
  Database database_;
};

// Reads sets of inputs while the ledger writes: of a job, or those that a job refers to. It keeps
// what it needs open from open() on, so that a master which has run out of descriptors still reads.
// Thread safety: none.
class InputReader {
 public:
  explicit InputReader(std::string folder) : folder_(std::move(folder)) {}
  // Done by read() where it has not been done, or has failed. Errors: kUnavailable.
  Result<void> open();
  // The row that holds this task's input. Errors: kCorrupt (there is none, or it is damaged),
  // kUnavailable.
  Result<InputRow> read(uint64_t set, TaskIndex task);

 private:
  struct Open {
    Database database;
    Statement find;
  };
  std::string folder_;
  std::optional<Open> open_;
};

// For this process alone, as long as the descriptor lives; the folder is made, for this user only.
// Errors: kInvalid (another master holds it), kUnavailable.
Result<UniqueFd> lock_state_folder(const std::string& folder);

class Ledger {
 public:
  // Opens, or makes, FOLDER/master.db; the folder is made too, for this user only. Errors: kInvalid
  // (another master holds the folder, a database of a newer or of another program), kUnavailable
  // (the disk), kExhausted (it is full, and there was no database of this version yet), kCorrupt.
  static Result<std::unique_ptr<Ledger>> open(const std::string& folder, LedgerContents* contents);
  // Writes what has come, unless the disk does not take it.
  ~Ledger();

  // `durable` is called once the batch is on disk, after those of all earlier batches.
  void write(LedgerBatch batch, std::function<void()> durable);

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
    LedgerBatch batch;
    std::function<void()> durable;
  };
  struct Statements;

  Ledger(UniqueFd lock, std::string folder, LifeFile life);
  void run();
  bool write_group(const std::vector<Entry>& group);
  Result<void> get_ready();
  Result<void> commit(const std::vector<Entry>& entries);
  Result<void> write_rows(const LedgerBatch& batch);
  Result<void> write_tasks(const std::vector<LedgerBatch::TaskRow>& rows);
  Result<void> write_shards(const LedgerBatch& batch);
  void set_trouble(std::optional<Failure> why);

  UniqueFd lock_;
  const std::string folder_;
  // The ledger's thread's, from its first batch on.
  LifeFile life_;
  std::optional<Database> database_;
  std::unique_ptr<Statements> statements_;
  Queue<Entry> entries_;
  mutable Mutex mutex_;
  std::optional<Failure> trouble_ LONGHAUL_GUARDED_BY(mutex_);
  std::function<void(const Failure&)> on_broken_ LONGHAUL_GUARDED_BY(mutex_);
  Thread thread_;  // last: it starts when all else is there
};

}  // namespace longhaul

// Inputs of the tasks of arrays: rows of a set, which is a job's own number, or one that a job
// refers to where they came in chunks, before it had a number.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control/database/engine/table.h"
#include "longhaul/agent/lease.h"

namespace longhaul {

// Sets that came in chunks are numbered from here on, far above the numbers of jobs, which name all
// other sets.
constexpr uint64_t kFirstInputSet = uint64_t{1} << 62;

// Inputs from task `first` on.
struct InputRow {
  uint64_t job = 0;  // or the set
  TaskIndex first = 0;
  std::string inputs;  // a v1::TaskInputs
};

class InputsTable : public Table {
 public:
  static constexpr std::array kMigrations{
      Migration{1,
                "CREATE TABLE inputs(job INTEGER NOT NULL, first INTEGER NOT NULL,"
                " inputs BLOB NOT NULL, PRIMARY KEY(job, first));"},
      Migration{4,
                "CREATE TABLE input_sets(job INTEGER PRIMARY KEY, input_set INTEGER NOT NULL);"}};

  struct Rows {
    std::vector<InputRow> inputs;
    std::map<uint64_t, uint64_t> sets;  // job -> its set
    std::vector<uint64_t> dropped;      // sets that no job will refer to
    bool empty() const { return inputs.empty() && sets.empty() && dropped.empty(); }
  };
  using Kept = std::map<uint64_t, uint64_t>;  // job -> its set; the inputs are read when asked for

  Result<void> prepare(Sqlite& sqlite);
  Result<void> write(const Rows& rows);
  Result<void> drop_job(int64_t job);
  static Result<void> read(TableReader& reader, Kept* kept);

 private:
  Statement put_;
  Statement put_set_;
  Statement drop_;
  Statement drop_of_set_;
  Statement drop_set_;
};

// Reads sets of inputs while the database writes: of a job, or those that a job refers to. It keeps
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
    Sqlite sqlite;
    Statement find;
  };
  std::string folder_;
  std::optional<Open> open_;
};

}  // namespace longhaul

// What `{}` becomes in each task of an array: its index, or an input of its own, which lies in the
// database.
//
// A failed read is never a value: a task whose input cannot be had is not to be run.
//
// Thread safety: none; the owner thread's.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "cluster/arrays/array_spec.h"
#include "cluster/jobs/job.h"
#include "control/database/database.h"
#include "longhaul/base/result.h"
#include "longhaul/v1/record.pb.h"

namespace longhaul {

class TaskInputs {
 public:
  // Of a job whose inputs, if it has any, lie in the database as this set. An array whose indices
  // cannot be read has no inputs at all, and says so.
  TaskInputs(const ArrayJobSpec& array, uint64_t set);

  // Errors: kInvalid (not as many indices or inputs as tasks).
  static Result<void> check(const ArrayJobSpec& array, size_t inputs);
  // Inputs that came with the submission as the rows of a set.
  static std::vector<InputRow> rows(uint64_t set, const std::vector<std::string>& inputs);

  // Errors: kCorrupt (there is none, or it cannot be read: it will not come back), kUnavailable
  // (the disk does not give it now).
  Result<std::string> input(TaskIndex task, InputReader& reader);

 private:
  // One row of the set is in memory.
  struct Stored {
    uint64_t set = 0;
    v1::TaskInputs row{};
    TaskIndex first = 0;

    bool holds(TaskIndex task) const {
      return task >= first && task - first < static_cast<TaskIndex>(row.inputs_size());
    }
  };
  static Result<std::string> input_of(Stored& stored, TaskIndex task, InputReader& reader);

  std::variant<Stored, ArraySpec, Failure> source_;
};

}  // namespace longhaul

// What `{}` becomes in each task of an array: its index, or an input of its own, kept as the
// ledger's rows keep them.
//
// Thread safety: none; the owner thread's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control/ledger/ledger.h"
#include "longhaul/base/result.h"
#include "longhaul/membership/array_spec.h"
#include "longhaul/membership/job.h"
#include "longhaul/v1/ledger.pb.h"

namespace longhaul {

class TaskInputs {
 public:
  // Errors: kInvalid (not as many indices or inputs as tasks).
  static Result<TaskInputs> make(const ArrayJobSpec& array, std::vector<std::string> inputs);
  static TaskInputs restore(const ArrayJobSpec& array, const std::vector<InputRow>& rows);

  // Those that lie in the ledger as a set; one row of them is in memory.
  static TaskInputs stored(std::string state_folder, uint64_t set);

  // The same for another thread: it reads what this one has on disk. `job`: its number.
  TaskInputs reader(std::string state_folder, uint64_t job) const;

  // The rows to keep; none where the tasks are called by their indices.
  std::vector<InputRow> rows(uint64_t job) const;
  // "" where there is none, or where the disk does not give it (that is logged).
  std::string input(TaskIndex task);

 private:
  static constexpr TaskIndex kChunk = 1024;

  std::optional<ArraySpec> indices_;
  std::vector<v1::TaskInputs> chunks_;  // of kChunk inputs each
  std::string input_of_set(TaskIndex task);

  std::string state_folder_;
  uint64_t set_ = 0;  // 0: in memory
  std::optional<InputReader> reader_;
  v1::TaskInputs row_;
  TaskIndex row_first_ = 0;
};

}  // namespace longhaul

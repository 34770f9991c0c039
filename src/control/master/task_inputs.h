// What `{}` becomes in each task of an array: its index, or an input of its own, kept as the
// ledger's rows keep them.
//
// Thread safety: none; the owner thread's.
#pragma once

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

  // The rows to keep; none where the tasks are called by their indices.
  std::vector<InputRow> rows(uint64_t job) const;
  std::string input(TaskIndex task) const;

 private:
  static constexpr TaskIndex kChunk = 1024;

  std::optional<ArraySpec> indices_;
  std::vector<v1::TaskInputs> chunks_;  // of kChunk inputs each
};

}  // namespace longhaul

// What the tasks of arrays are about: each job's inputs (results/task_inputs.h), which lie in the
// database.
//
// Thread safety: the owner thread's; what of() gives is the asker's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/owner.h"
#include "cluster/cluster_memory.h"
#include "control/database/database.h"
#include "control/master/results/task_inputs.h"

namespace longhaul {

class InputStore {
 public:
  // `boot` is greater than that of any master before on this state, and so are the numbers of its
  // sets: what a submission left that broke off with an earlier master is never taken for a new
  // one's.
  InputStore(const Owner& owner, const std::string& state_folder, uint32_t boot)
      : owner_(owner), reader_(state_folder), last_set_(kFirstInputSet + (uint64_t{boot} << 32)) {}

  // Those of earlier lives; `sets`: of whose inputs came in chunks.
  void restore(const std::vector<JobRecord>& jobs, const InputsTable::Kept& sets);
  // Opens what is read later. Errors: kUnavailable; it is tried again.
  Result<void> open() { return reader_.open(); }

  // What the tasks of a job that was just submitted are about: its rows in `batch`.
  void add(const JobId& job, const ArrayJobSpec& array, const std::vector<std::string>& inputs,
           DatabaseBatch* batch);
  // The same for inputs that have come in chunks, as rows of a set of their own.
  void add_stored(const JobId& job, const ArrayJobSpec& array, uint64_t set, DatabaseBatch* batch);
  uint64_t new_set();
  bool has(const JobId& job) const;
  std::optional<TaskInputs> of(const JobId& job) const;
  void forget(const JobId& job);
  // Errors: kCorrupt (it cannot be had, ever), kUnavailable (not now).
  Result<std::string> input(const JobId& job, TaskIndex task);

 private:
  const Owner& owner_;
  std::map<JobId, TaskInputs> inputs_;
  InputReader reader_;
  uint64_t last_set_;
};

}  // namespace longhaul

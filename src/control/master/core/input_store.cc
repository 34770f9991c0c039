#include "control/master/core/input_store.h"

#include <utility>

namespace longhaul {

void InputStore::restore(const std::vector<JobRecord>& jobs, const InputsTable::Kept& sets) {
  owner_.assert_owner();
  for (const JobRecord& job : jobs) {
    if (!job.status.spec.array) continue;
    const auto set = sets.find(job.number);
    // Those that came with the submission itself are rows of the job.
    const uint64_t number = set == sets.end() ? job.number : set->second;
    inputs_.emplace(job.status.id, TaskInputs(*job.status.spec.array, number));
  }
}

void InputStore::add(const JobId& job, const ArrayJobSpec& array,
                     const std::vector<std::string>& inputs, DatabaseBatch* batch) {
  owner_.assert_owner();
  const uint64_t number = job_number(job);
  for (InputRow& row : TaskInputs::rows(number, inputs)) {
    batch->of<InputsTable>().inputs.push_back(std::move(row));
  }
  inputs_.emplace(job, TaskInputs(array, number));
}

void InputStore::add_stored(const JobId& job, const ArrayJobSpec& array, uint64_t set,
                            DatabaseBatch* batch) {
  owner_.assert_owner();
  batch->of<InputsTable>().sets[job_number(job)] = set;
  inputs_.emplace(job, TaskInputs(array, set));
}

uint64_t InputStore::new_set() {
  owner_.assert_owner();
  return ++last_set_;
}

bool InputStore::has(const JobId& job) const {
  owner_.assert_owner();
  return inputs_.contains(job);
}

void InputStore::forget(const JobId& job) {
  owner_.assert_owner();
  inputs_.erase(job);
}

std::optional<TaskInputs> InputStore::of(const JobId& job) const {
  owner_.assert_owner();
  const auto found = inputs_.find(job);
  if (found == inputs_.end()) return std::nullopt;
  return found->second;
}

Result<std::string> InputStore::input(const JobId& job, TaskIndex task) {
  owner_.assert_owner();
  const auto found = inputs_.find(job);
  if (found == inputs_.end()) return Failure{ErrorKind::kCorrupt, "the job has no inputs"};
  return found->second.input(task, reader_);
}

}  // namespace longhaul

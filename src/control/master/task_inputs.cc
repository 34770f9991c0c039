#include "control/master/task_inputs.h"

#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {

Result<TaskInputs> TaskInputs::make(const ArrayJobSpec& array, std::vector<std::string> inputs) {
  TaskInputs made;
  if (!array.indices.empty()) {
    Result<ArraySpec> spec = ArraySpec::parse(array.indices);
    if (!spec) return spec.failure();
    if (spec->size() != array.tasks) {
      return Failure{ErrorKind::kInvalid, str_cat("an array of ", array.tasks, " tasks has ",
                                                  spec->size(), " indices: ", array.indices)};
    }
    made.indices_ = std::move(*spec);
    return made;
  }
  if (inputs.size() != array.tasks) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("an array of ", array.tasks, " tasks has ", inputs.size(), " inputs")};
  }
  for (size_t task = 0; task < inputs.size(); ++task) {
    if (task % kChunk == 0) made.chunks_.emplace_back();
    made.chunks_.back().add_inputs(std::move(inputs[task]));
  }
  return made;
}

TaskInputs TaskInputs::restore(const ArrayJobSpec& array, const std::vector<InputRow>& rows) {
  TaskInputs restored;
  if (!array.indices.empty()) {
    if (Result<ArraySpec> spec = ArraySpec::parse(array.indices)) restored.indices_ = *spec;
    return restored;
  }
  for (const InputRow& row : rows) restored.chunks_.emplace_back().ParseFromString(row.inputs);
  return restored;
}

std::vector<InputRow> TaskInputs::rows(uint64_t job) const {
  std::vector<InputRow> rows;
  rows.reserve(chunks_.size());
  for (const v1::TaskInputs& chunk : chunks_) {
    rows.push_back({job, static_cast<TaskIndex>(rows.size()) * kChunk, chunk.SerializeAsString()});
  }
  return rows;
}

std::string TaskInputs::input(TaskIndex task) const {
  if (indices_) return task < indices_->size() ? std::to_string(indices_->index(task)) : "";
  const size_t chunk = task / kChunk;
  const int place = static_cast<int>(task % kChunk);
  if (chunk >= chunks_.size() || place >= chunks_[chunk].inputs_size()) return "";
  return chunks_[chunk].inputs(place);
}

}  // namespace longhaul

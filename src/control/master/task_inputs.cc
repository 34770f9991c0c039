#include "control/master/task_inputs.h"

#include <utility>

#include "longhaul/base/log.h"
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

TaskInputs TaskInputs::stored(std::string state_folder, uint64_t set) {
  TaskInputs inputs;
  inputs.state_folder_ = std::move(state_folder);
  inputs.set_ = set;
  return inputs;
}

TaskInputs TaskInputs::reader(std::string state_folder, uint64_t job) const {
  if (!indices_) return stored(std::move(state_folder), set_ != 0 ? set_ : job);
  TaskInputs same;
  same.indices_ = indices_;
  return same;
}

std::string TaskInputs::input_of_set(TaskIndex task) {
  const auto in_row = [&] {
    return task >= row_first_ && task - row_first_ < static_cast<TaskIndex>(row_.inputs_size());
  };
  if (!in_row()) {
    if (!reader_) {
      Result<InputReader> reader = InputReader::open(state_folder_);
      if (reader) reader_ = std::move(*reader);
    }
    const Result<InputRow> row =
        reader_ ? reader_->read(set_, task)
                : Result<InputRow>(Failure{ErrorKind::kUnavailable, "the ledger cannot be read"});
    if (!row) {
      log(LogLevel::kError, "master", "inputs: ", row.failure().message);
      return "";
    }
    row_first_ = row->first;
    row_.ParseFromString(row->inputs);
  }
  return in_row() ? row_.inputs(static_cast<int>(task - row_first_)) : "";
}

std::string TaskInputs::input(TaskIndex task) {
  if (set_ != 0) return input_of_set(task);
  if (indices_) return task < indices_->size() ? std::to_string(indices_->index(task)) : "";
  const size_t chunk = task / kChunk;
  const int place = static_cast<int>(task % kChunk);
  if (chunk >= chunks_.size() || place >= chunks_[chunk].inputs_size()) return "";
  return chunks_[chunk].inputs(place);
}

}  // namespace longhaul

#include "control/master/results/task_inputs.h"

#include <algorithm>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Inputs in one row, where they came with the submission. One row is in memory for each job, and
// tasks are granted about in order: so it is read once for many of them.
constexpr size_t kChunk = 1024;

Failure missing(TaskIndex task, std::string_view why) {
  return {ErrorKind::kCorrupt, str_cat("the input of task ", task, " ", why)};
}

}  // namespace

TaskInputs::TaskInputs(const ArrayJobSpec& array, uint64_t set) : source_(Stored{set}) {
  if (array.indices.empty()) return;
  Result<ArraySpec> indices = ArraySpec::parse(array.indices);
  if (indices) {
    source_ = std::move(*indices);
  } else {
    source_ = Failure{ErrorKind::kCorrupt, indices.failure().message};
  }
}

Result<void> TaskInputs::check(const ArrayJobSpec& array, size_t inputs) {
  if (array.indices.empty()) {
    if (inputs == array.tasks) return {};
    return Failure{ErrorKind::kInvalid,
                   str_cat("an array of ", array.tasks, " tasks has ", inputs, " inputs")};
  }
  const Result<ArraySpec> spec = ArraySpec::parse(array.indices);
  if (!spec) return spec.failure();
  if (spec->size() == array.tasks) return {};
  return Failure{ErrorKind::kInvalid, str_cat("an array of ", array.tasks, " tasks has ",
                                              spec->size(), " indices: ", array.indices)};
}

std::vector<InputRow> TaskInputs::rows(uint64_t set, const std::vector<std::string>& inputs) {
  std::vector<InputRow> rows;
  for (size_t first = 0; first < inputs.size(); first += kChunk) {
    v1::TaskInputs chunk;
    const size_t end = std::min(inputs.size(), first + kChunk);
    for (size_t task = first; task < end; ++task) chunk.add_inputs(inputs[task]);
    rows.push_back({set, static_cast<TaskIndex>(first), chunk.SerializeAsString()});
  }
  return rows;
}

Result<std::string> TaskInputs::input(TaskIndex task, InputReader& reader) {
  if (const auto* unreadable = std::get_if<Failure>(&source_)) return *unreadable;
  if (const auto* indices = std::get_if<ArraySpec>(&source_)) {
    if (task >= indices->size()) return missing(task, "is beyond the array's indices");
    return std::to_string(indices->index(task));
  }
  return input_of(std::get<Stored>(source_), task, reader);
}

Result<std::string> TaskInputs::input_of(Stored& stored, TaskIndex task, InputReader& reader) {
  if (!stored.holds(task)) {
    const Result<InputRow> row = reader.read(stored.set, task);
    if (!row) return row.failure();
    v1::TaskInputs parsed;
    if (!parsed.ParseFromString(row->inputs)) {
      return missing(task, str_cat("lies in a row that cannot be read: set ", stored.set,
                                   ", from task ", row->first, " on"));
    }
    stored.row = std::move(parsed);
    stored.first = row->first;
  }
  if (!stored.holds(task)) return missing(task, "is not in the database");
  return stored.row.inputs(static_cast<int>(task - stored.first));
}

}  // namespace longhaul

#include "apps/cli/commands/retry_request.h"

#include <optional>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul::cli {

Result<std::vector<FailedTask>> failed_tasks(JobClient& client, const JobStatus& job) {
  if (!has_ended(job.state)) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("job ", job.id, " has not ended (", to_string(job.state),
                           "): wait for it, or stop it")};
  }
  ResultOptions options;
  options.all_ended = options.only_failed = options.inputs = true;
  std::vector<FailedTask> failed;
  std::optional<Failure> unknown;
  const Result<void> read = client.result_pieces(job.id, options, [&](const ResultPiece& piece) {
    if (piece.outcome == TaskOutcome::kDone && piece.damaged.empty()) return true;
    // Nothing is submitted then: a retry without some of the tasks would look complete.
    if (!piece.input_damaged.empty()) {
      unknown = {
          ErrorKind::kCorrupt,
          str_cat("task ", piece.task, " cannot be run again: ", std::string(piece.input_damaged))};
    }
    failed.push_back({piece.task, std::string(piece.input)});
    return !unknown;
  });
  if (unknown) return *unknown;
  if (!read) return read.failure();
  return failed;
}

std::string as_ranges(const std::vector<FailedTask>& tasks) {
  std::vector<std::string> parts;
  for (size_t first = 0; first < tasks.size();) {
    size_t last = first;
    while (last + 1 < tasks.size() && tasks[last + 1].task == tasks[last].task + 1) ++last;
    parts.push_back(last == first ? str_cat(tasks[first].task)
                                  : str_cat(tasks[first].task, "-", tasks[last].task));
    first = last + 1;
  }
  return join(parts, ",");
}

ArrayRequested retry_of(const JobStatus& job, std::vector<FailedTask> tasks) {
  ArrayRequested made{job.spec, nullptr};
  // The name may be taken by a job that runs, and the job that is retried keeps it.
  made.spec.name.clear();
  ArrayJobSpec& array = *made.spec.array;
  array.tasks = static_cast<TaskIndex>(tasks.size());
  if (!array.indices.empty()) {
    array.indices = as_ranges(tasks);
    return made;
  }
  made.next_input = [tasks = std::move(tasks), at = size_t{0}](std::string* input) mutable {
    if (at == tasks.size()) return false;
    *input = std::move(tasks[at++].input);
    return true;
  };
  return made;
}

}  // namespace longhaul::cli

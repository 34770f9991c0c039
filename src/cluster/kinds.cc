#include "cluster/kinds.h"

#include "cluster/arrays/task_array.h"
#include "cluster/gangs/gang.h"

namespace longhaul {
namespace {

constexpr int kMaxRanks = 65'536;
constexpr int kMaxBatch = 10'000;

std::optional<Failure> why_invalid_array(const JobSpec& spec) {
  const ArrayJobSpec& array = *spec.array;
  if (spec.input) {
    return Failure{ErrorKind::kInvalid,
                   "the tasks of an array have no stdin that could be sent to them"};
  }
  if (array.tasks < 1 || array.tasks > kMaxTasks) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("an array has 1 to ", kMaxTasks, " tasks, not ", array.tasks)};
  }
  if (array.batch < 1 || array.batch > kMaxBatch) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("a batch has 1 to ", kMaxBatch, " tasks, not ", array.batch)};
  }
  if (array.max_attempts < 1) {
    return Failure{ErrorKind::kInvalid, "a task needs at least one attempt"};
  }
  return std::nullopt;
}

std::optional<Failure> why_invalid_gang(const JobSpec& spec) {
  if (spec.input && spec.may_restart()) {
    return Failure{ErrorKind::kInvalid,
                   "what rank 0 has read on stdin cannot be sent again: a job with it has no "
                   "restarts"};
  }
  if (spec.ranks < 1 || spec.ranks > kMaxRanks) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("a job has 1 to ", kMaxRanks, " ranks, not ", spec.ranks)};
  }
  if (spec.min_nodes > 0 && (spec.max_ranks_per_worker < 1 || spec.min_nodes > spec.max_nodes())) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("an elastic job runs on ", spec.min_nodes, " to ", spec.max_nodes(),
                           " workers with ", spec.max_ranks_per_worker, " ranks each")};
  }
  return std::nullopt;
}

template <typename Kind>
std::unique_ptr<Work> make(Site& site, JobRecord record) {
  return std::make_unique<Kind>(site, std::move(record));
}

}  // namespace

WorkKinds standard_kinds() {
  return {{[](const JobSpec& spec) { return spec.array.has_value(); }, why_invalid_array,
           make<TaskArray>},
          {[](const JobSpec&) { return true; }, why_invalid_gang, make<Gang>}};
}

}  // namespace longhaul

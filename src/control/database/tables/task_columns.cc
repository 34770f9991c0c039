#include "control/database/tables/task_columns.h"

#include <string.h>

#include <string>
#include <string_view>

namespace longhaul {
namespace {

constexpr int64_t kNoFault = -1;

}  // namespace

TaskRecord task_of(const Statement& row) {
  TaskRecord task;
  task.task = static_cast<TaskIndex>(row.integer(1));
  const int64_t state = row.integer(2);
  const bool known = state >= 0 && state < static_cast<int64_t>(kTaskStates);
  task.state = known ? static_cast<TaskState>(state) : kUnreadable;
  task.attempt = static_cast<uint32_t>(row.integer(3));
  task.epoch = static_cast<LeaseEpoch>(row.integer(4));
  task.holder = {row.bytes(5), row.bytes(6)};
  const std::string failures = row.bytes(7);
  // Counts for each kind of fault, as bytes in memory: another size was written by a program with
  // other kinds.
  if (failures.size() == sizeof(task.failures)) {
    ::memcpy(task.failures.data(), failures.data(), failures.size());
  } else {
    task.state = kUnreadable;
  }
  if (row.integer(8) != kNoFault) task.last_fault = static_cast<FaultKind>(row.integer(8));
  task.reason = row.bytes(9);
  return task;
}

Statement& bind_task(Statement& statement, const TaskRecord& task) {
  const std::string_view failures(reinterpret_cast<const char*>(task.failures.data()),
                                  sizeof(task.failures));
  return statement.bind(static_cast<int64_t>(task.state))
      .bind(task.attempt)
      .bind(static_cast<int64_t>(task.epoch))
      .bind_text(task.holder.worker)
      .bind_text(task.holder.incarnation)
      .bind(failures)
      .bind(task.last_fault ? static_cast<int64_t>(*task.last_fault) : kNoFault)
      .bind(task.reason);
}

}  // namespace longhaul

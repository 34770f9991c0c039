// The columns of a task, which is a row of several tables: of an array's tasks, of a dataset's
// shards.
#pragma once

#include "cluster/arrays/task.h"
#include "control/database/engine/sqlite.h"

namespace longhaul {

// No state of a task: its row cannot be understood.
constexpr auto kUnreadable = static_cast<TaskState>(UINT8_MAX);

// Columns 1 to 9 of a row: task, state, attempt, epoch, worker, incarnation, failures, last_fault,
// reason.
TaskRecord task_of(const Statement& row);
// Binds the same but for `task`.
Statement& bind_task(Statement& statement, const TaskRecord& task);

}  // namespace longhaul

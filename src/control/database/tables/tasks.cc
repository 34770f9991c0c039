#include "control/database/tables/tasks.h"

#include <algorithm>
#include <utility>

#include "control/database/tables/jobs.h"
#include "control/database/tables/task_columns.h"

namespace longhaul {
namespace {

constexpr int64_t kNoDuration = -1;

int64_t duration_of(const TaskRecord& task) {
  return task.ran_ms == kNotMeasured ? kNoDuration : int64_t{task.ran_ms};
}

// How many rows from `first` on can be one row of `grants`: first attempts that were granted in one
// go, whose tasks and epochs follow each other. Only first attempts, because a row of `tasks`,
// which a task has after its first change, counts more than one of `grants`.
size_t granted_together(const std::vector<TasksTable::Row>& rows, size_t first) {
  const TaskRecord& head = rows[first].task;
  size_t count = 0;
  while (first + count < rows.size()) {
    const auto& [job, task] = rows[first + count];
    const bool fits = job == rows[first].job && task.state == TaskState::kLeased &&
                      task.attempt == 1 && task.task == head.task + count &&
                      task.epoch == head.epoch + count && task.holder == head.holder;
    if (!fits) break;
    ++count;
  }
  return count;
}

// Of each job, which tasks have a row of their own.
std::map<uint64_t, std::vector<bool>> moved_tasks(const TasksTable::Kept& kept) {
  std::map<uint64_t, std::vector<bool>> moved;
  for (const auto& [job, rows] : kept) {
    std::vector<bool>& of_job = moved[job];
    for (const TaskRecord& row : rows) {
      if (row.task >= kMaxTasks) continue;  // damaged: the job will not go on
      if (of_job.size() <= row.task) of_job.resize(row.task + 1);
      of_job[row.task] = true;
    }
  }
  return moved;
}

void add_granted(const Statement& row, int64_t count, const std::vector<bool>& moved,
                 std::vector<TaskRecord>* tasks) {
  TaskRecord task;
  task.task = static_cast<TaskIndex>(row.integer(1));
  task.state = TaskState::kLeased;
  task.attempt = 1;
  task.epoch = static_cast<LeaseEpoch>(row.integer(3));
  task.holder = {row.bytes(4), row.bytes(5)};
  for (; count > 0; --count, ++task.task, ++task.epoch) {
    if (task.task >= moved.size() || !moved[task.task]) tasks->push_back(task);
  }
}

}  // namespace

TaskRecord timed_task_of(const Statement& row) {
  TaskRecord task = task_of(row);
  if (row.integer(10) != kNoDuration) task.ran_ms = static_cast<uint32_t>(row.integer(10));
  return task;
}

Result<void> TasksTable::prepare(Sqlite& sqlite) {
  return prepare_all(
      sqlite, {{&put_, "INSERT OR REPLACE INTO tasks VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
               {&put_grant_, "INSERT OR REPLACE INTO grants VALUES(?, ?, ?, ?, ?)"},
               {&drop_, "DELETE FROM tasks WHERE place>=?1<<32 AND place<(?1+1)<<32"},
               {&drop_grants_, "DELETE FROM grants WHERE place>=?1<<32 AND place<(?1+1)<<32"}});
}

Result<void> TasksTable::write(const Rows& rows) {
  const std::vector<Row>& tasks = rows.tasks;
  for (size_t i = 0; i < tasks.size();) {
    const auto& [job, task] = tasks[i];
    const size_t together = granted_together(tasks, i);
    // A task that was granted alone gets its row in `tasks` at once: its end will need that row
    // anyway.
    Result<void> done =
        together > 1
            ? put_grant_.bind(place_of(job, task.task))
                  .bind(static_cast<int64_t>(together))
                  .bind(static_cast<int64_t>(task.epoch))
                  .bind_text(task.holder.worker)
                  .bind_text(task.holder.incarnation)
                  .run()
            : bind_task(put_.bind(place_of(job, task.task)), task).bind(duration_of(task)).run();
    if (!done) return done;
    i += std::max<size_t>(together, 1);
  }
  return {};
}

Result<void> TasksTable::drop_job(int64_t job) {
  Result<void> done = drop_.bind(job).run();
  return done ? drop_grants_.bind(job).run() : done;
}

Result<void> TasksTable::read(TableReader& reader, Kept* kept) {
  Result<void> done = reader.of_jobs(
      "a task",
      "SELECT job, task, state, attempt, epoch, worker,"
      " incarnation, failures, last_fault, reason, ran_ms FROM"
      " tasks",
      [kept](uint64_t job, const Statement& row) { (*kept)[job].push_back(timed_task_of(row)); });
  if (!done) return done;
  // The grants come second: those of their tasks that have a row of their own are as that one says.
  std::map<uint64_t, std::vector<bool>> moved = moved_tasks(*kept);
  return reader.of_jobs("a grant",
                        "SELECT job, task, count, epoch, worker, incarnation FROM grants",
                        [&](uint64_t job, const Statement& row) {
                          const int64_t count = row.integer(2);
                          if (count < 1 || count > kMaxTasks) {
                            reader.damage(job, "a grant");
                          } else {
                            add_granted(row, count, moved[job], &(*kept)[job]);
                          }
                        });
}

void TasksTable::collect(ClusterState& state, const std::string& job, Rows* rows) {
  for (TaskRecord& task : state.take_task_rows(job)) {
    rows->tasks.push_back({job_number(job), std::move(task)});
  }
}

}  // namespace longhaul

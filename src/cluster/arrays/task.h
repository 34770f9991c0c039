// One task of an array job as values: where it stands, and its durable row. Who may move it is
// decided by task_table.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cluster/failure/fault_budget.h"
#include "longhaul/agent/lease.h"

namespace longhaul {

// The numbers are on disk.
enum class TaskState : uint8_t {
  kWaiting = 0,
  kBackingOff = 1,
  kLeased = 2,
  kDone = 3,
  kQuarantined = 4,
  kCancelled = 5,
};
constexpr size_t kTaskStates = 6;
constexpr uint32_t kNotMeasured = 0xFFFFFFFF;
std::string_view to_string(TaskState state);
inline bool has_ended(TaskState state) {
  return state == TaskState::kDone || state == TaskState::kQuarantined ||
         state == TaskState::kCancelled;
}

// All there is to know of one task, and its durable row. The lease is that of its last attempt;
// attempt 0: never granted.
struct TaskRecord {
  TaskIndex task = 0;
  TaskState state = TaskState::kWaiting;
  uint32_t attempt = 0;
  LeaseEpoch epoch = 0;
  LeaseHolder holder;
  FaultCounts failures{};
  std::optional<FaultKind> last_fault;
  std::string reason;  // of the last failure; until the task is done
  // How long the process of the last attempt that ended ran; kNotMeasured: nobody said.
  uint32_t ran_ms = kNotMeasured;

  Lease lease() const { return {task, attempt, epoch, holder.incarnation}; }
  bool operator==(const TaskRecord&) const = default;
};

struct TaskCounts {
  std::array<TaskIndex, kTaskStates> in_state{};
  std::array<uint64_t, kFaultKinds> failures{};  // of all tasks

  TaskIndex in(TaskState state) const { return in_state[static_cast<size_t>(state)]; }
  uint64_t of(FaultKind kind) const { return failures[static_cast<size_t>(kind)]; }
  bool operator==(const TaskCounts&) const = default;
};

}  // namespace longhaul

#include "control/convert/job_proto.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "agent/client/coordinator_proto.h"
#include "agent/client/enum_pairs.h"

namespace longhaul {
namespace {

constexpr EnumPairs kJobStates = {
    std::pair{JobState::kPending, v1::JOB_STATE_PENDING},
    std::pair{JobState::kStarting, v1::JOB_STATE_STARTING},
    std::pair{JobState::kRunning, v1::JOB_STATE_RUNNING},
    std::pair{JobState::kStopping, v1::JOB_STATE_STOPPING},
    std::pair{JobState::kSucceeded, v1::JOB_STATE_SUCCEEDED},
    std::pair{JobState::kFailed, v1::JOB_STATE_FAILED},
    std::pair{JobState::kStopped, v1::JOB_STATE_STOPPED},
};

constexpr EnumPairs kRankStates = {
    std::pair{RankState::kAssigned, v1::RANK_STATE_ASSIGNED},
    std::pair{RankState::kSpawned, v1::RANK_STATE_SPAWNED},
    std::pair{RankState::kJoined, v1::RANK_STATE_JOINED},
    std::pair{RankState::kLeft, v1::RANK_STATE_LEFT},
    std::pair{RankState::kExited, v1::RANK_STATE_EXITED},
    std::pair{RankState::kLost, v1::RANK_STATE_LOST},
};

constexpr EnumPairs kPlacements = {
    std::pair{PlacementStyle::kPack, v1::PLACEMENT_PACK},
    std::pair{PlacementStyle::kSpread, v1::PLACEMENT_SPREAD},
};

constexpr EnumPairs kFailureClasses = {
    std::pair{FailureClass::kExitCode, v1::FAILURE_CLASS_EXIT_CODE},
    std::pair{FailureClass::kSignal, v1::FAILURE_CLASS_SIGNAL},
    std::pair{FailureClass::kException, v1::FAILURE_CLASS_EXCEPTION},
    std::pair{FailureClass::kLaunch, v1::FAILURE_CLASS_LAUNCH},
    std::pair{FailureClass::kJoinTimeout, v1::FAILURE_CLASS_JOIN_TIMEOUT},
    std::pair{FailureClass::kEarlyExit, v1::FAILURE_CLASS_EARLY_EXIT},
    std::pair{FailureClass::kHang, v1::FAILURE_CLASS_HANG},
    std::pair{FailureClass::kWorkerLost, v1::FAILURE_CLASS_WORKER_LOST},
    std::pair{FailureClass::kNoRoom, v1::FAILURE_CLASS_NO_ROOM},
    std::pair{FailureClass::kTimeLimit, v1::FAILURE_CLASS_TIME_LIMIT},
    std::pair{FailureClass::kTasks, v1::FAILURE_CLASS_TASKS},
    std::pair{FailureClass::kOutOfMemory, v1::FAILURE_CLASS_OUT_OF_MEMORY},
    std::pair{FailureClass::kKilled, v1::FAILURE_CLASS_KILLED},
    std::pair{FailureClass::kPreempted, v1::FAILURE_CLASS_PREEMPTED},
    std::pair{FailureClass::kStateDamaged, v1::FAILURE_CLASS_STATE_DAMAGED},
};

// 100 years. A longer one would overflow the clock's 64 bits of nanoseconds (292 years) when it is
// added to a moment.
constexpr uint64_t kLongestLimitMs = uint64_t{100} * 365 * 24 * 3600 * 1000;

// A count from the wire as an int: huge numbers stay huge instead of turning negative.
int to_int(uint32_t number) {
  return static_cast<int>(
      std::min<uint32_t>(number, static_cast<uint32_t>(std::numeric_limits<int>::max())));
}

template <typename To, typename List>
std::vector<To> vector_from(const List& list) {
  return {list.begin(), list.end()};
}

v1::ArraySpec to_proto(const ArrayJobSpec& array) {
  v1::ArraySpec proto;
  proto.set_tasks(array.tasks);
  proto.set_indices(array.indices);
  proto.set_max_at_once(array.max_at_once);
  proto.set_batch(static_cast<uint32_t>(array.batch));
  proto.set_max_attempts(static_cast<uint32_t>(array.max_attempts));
  proto.set_max_result_bytes(array.max_result_bytes);
  proto.set_max_oom_attempts(static_cast<uint32_t>(array.max_oom_attempts));
  proto.set_max_preemptions(static_cast<uint32_t>(array.max_preemptions));
  proto.set_warm(array.warm);
  return proto;
}

ArrayJobSpec from_proto(const v1::ArraySpec& proto) {
  ArrayJobSpec array;
  array.tasks = proto.tasks();
  array.indices = proto.indices();
  array.max_at_once = proto.max_at_once();
  array.batch = to_int(proto.batch());
  array.max_attempts = to_int(proto.max_attempts());
  array.max_oom_attempts = to_int(proto.max_oom_attempts());
  array.max_preemptions = to_int(proto.max_preemptions());
  array.max_result_bytes = proto.max_result_bytes();
  array.warm = proto.warm();
  return array;
}

constexpr std::pair<TaskState, void (v1::ArrayStatus::*)(uint32_t)> kTaskCounts[] = {
    {TaskState::kWaiting, &v1::ArrayStatus::set_waiting},
    {TaskState::kBackingOff, &v1::ArrayStatus::set_backing_off},
    {TaskState::kLeased, &v1::ArrayStatus::set_running},
    {TaskState::kDone, &v1::ArrayStatus::set_done},
    {TaskState::kQuarantined, &v1::ArrayStatus::set_given_up},
    {TaskState::kCancelled, &v1::ArrayStatus::set_cancelled},
};

ArrayStatus from_proto(const v1::ArrayStatus& proto) {
  ArrayStatus array;
  array.counts.in_state = {proto.waiting(), proto.backing_off(), proto.running(),
                           proto.done(),    proto.given_up(),    proto.cancelled()};
  array.ended_below = proto.ended_below();
  for (const v1::GivenUpTask& task : proto.first_given_up()) {
    array.given_up.push_back({task.task(), task.reason()});
  }
  return array;
}

}  // namespace

v1::ArrayStatus to_proto(const ArrayStatus& array) {
  v1::ArrayStatus proto;
  for (const auto& [state, set] : kTaskCounts) (proto.*set)(array.counts.in(state));
  proto.set_ended_below(array.ended_below);
  for (const GivenUpTask& task : array.given_up) {
    v1::GivenUpTask* one = proto.add_first_given_up();
    one->set_task(task.task);
    one->set_reason(task.reason);
  }
  return proto;
}

Lease from_proto(const v1::Lease& proto) {
  return {proto.task(), proto.attempt(), proto.epoch(), proto.incarnation()};
}

void fill(v1::Lease* proto, const Lease& lease) {
  proto->set_task(lease.task);
  proto->set_attempt(lease.attempt);
  proto->set_epoch(lease.epoch);
  proto->set_incarnation(lease.incarnation);
}

v1::Lease to_proto(const Lease& lease) {
  v1::Lease proto;
  fill(&proto, lease);
  return proto;
}

v1::JobSpec to_proto(const JobSpec& spec) {
  v1::JobSpec proto;
  proto.set_name(spec.name);
  proto.mutable_command()->Assign(spec.command.begin(), spec.command.end());
  proto.mutable_env()->insert(spec.env.begin(), spec.env.end());
  proto.set_working_directory(spec.working_directory);
  proto.set_ranks(static_cast<uint32_t>(spec.ranks));
  proto.set_fail_when_full(spec.fail_when_full);
  proto.set_join_timeout_ms(static_cast<uint32_t>(spec.join_timeout.count()));
  proto.set_grace_ms(static_cast<uint32_t>(spec.grace.count()));
  proto.set_max_ranks_per_worker(static_cast<uint32_t>(spec.max_ranks_per_worker));
  proto.set_min_nodes(static_cast<uint32_t>(spec.min_nodes));
  proto.set_max_restarts(static_cast<uint32_t>(spec.max_restarts));
  proto.set_max_node_restarts(static_cast<uint32_t>(spec.max_node_restarts));
  proto.set_max_oom_restarts(static_cast<uint32_t>(spec.max_oom_restarts));
  proto.set_max_preemptions(static_cast<uint32_t>(spec.max_preemptions));
  proto.set_time_limit_ms(static_cast<uint64_t>(spec.time_limit.count()));
  if (spec.array) *proto.mutable_array() = to_proto(*spec.array);
  proto.set_gpus_per_rank(static_cast<uint32_t>(spec.gpus_per_rank));
  proto.set_memory_per_rank(spec.memory_per_rank);
  proto.set_placement(kPlacements.to(spec.placement));
  proto.set_priority(spec.priority);
  proto.set_wait_for_nodes(spec.wait_for_nodes);
  proto.set_terminal(spec.terminal);
  proto.set_input(spec.input);
  return proto;
}

JobSpec from_proto(const v1::JobSpec& proto) {
  JobSpec spec;
  spec.name = proto.name();
  spec.command = vector_from<std::string>(proto.command());
  spec.env = {proto.env().begin(), proto.env().end()};
  spec.working_directory = proto.working_directory();
  spec.ranks = to_int(proto.ranks());
  spec.fail_when_full = proto.fail_when_full();
  spec.join_timeout = milliseconds(proto.join_timeout_ms());
  spec.grace = milliseconds(proto.grace_ms());
  spec.max_ranks_per_worker = to_int(proto.max_ranks_per_worker());
  spec.min_nodes = to_int(proto.min_nodes());
  spec.max_restarts = to_int(proto.max_restarts());
  spec.max_node_restarts = to_int(proto.max_node_restarts());
  spec.max_oom_restarts = to_int(proto.max_oom_restarts());
  spec.max_preemptions = to_int(proto.max_preemptions());
  spec.time_limit = milliseconds(std::min(proto.time_limit_ms(), kLongestLimitMs));
  if (proto.has_array()) spec.array = from_proto(proto.array());
  spec.gpus_per_rank = to_int(proto.gpus_per_rank());
  spec.memory_per_rank = proto.memory_per_rank();
  spec.placement = kPlacements.from(proto.placement(), PlacementStyle::kPack);
  spec.priority = proto.priority();
  spec.wait_for_nodes = proto.wait_for_nodes();
  spec.terminal = proto.terminal();
  spec.input = proto.input();
  return spec;
}

v1::RankStatus to_proto(const RankRecord& rank) {
  v1::RankStatus proto;
  proto.set_rank(static_cast<uint32_t>(rank.rank));
  proto.set_worker_id(rank.worker);
  proto.set_host(rank.host);
  proto.set_pid(rank.pid);
  proto.set_state(kRankStates.to(rank.state));
  if (rank.exit) {
    proto.set_exit_code(rank.exit->exit_code);
    proto.set_signal(rank.exit->signal);
  }
  if (rank.progress) *proto.mutable_progress() = to_proto(*rank.progress);
  if (rank.fault) *proto.mutable_fault() = to_proto(*rank.fault);
  proto.set_unix_ms_started(rank.unix_ms_started);
  proto.set_unix_ms_exited(rank.unix_ms_exited);
  proto.set_victim(rank.victim);
  proto.mutable_gpus()->Assign(rank.gpus.begin(), rank.gpus.end());
  return proto;
}

RankRecord from_proto(const v1::RankStatus& proto) {
  RankRecord rank;
  rank.rank = to_int(proto.rank());
  rank.worker = proto.worker_id();
  rank.host = proto.host();
  rank.pid = proto.pid();
  rank.state = kRankStates.from(proto.state(), RankState::kAssigned);
  // A status tells of an exit its code and signal alone; the rest is in the master's own record.
  if (rank.state == RankState::kExited) {
    rank.exit.emplace();
    rank.exit->exit_code = proto.exit_code();
    rank.exit->signal = proto.signal();
  }
  if (proto.has_progress()) rank.progress = from_proto(proto.progress());
  if (proto.has_fault()) rank.fault = from_proto(proto.fault());
  rank.unix_ms_started = proto.unix_ms_started();
  rank.unix_ms_exited = proto.unix_ms_exited();
  rank.victim = proto.victim();
  rank.gpus = vector_from<int>(proto.gpus());
  return rank;
}

v1::JobState to_proto(JobState state) {
  return kJobStates.to(state);
}

JobState from_proto(v1::JobState state) {
  return kJobStates.from(state, JobState::kPending);
}

v1::FailureClass to_proto(FailureClass failure_class) {
  return kFailureClasses.to(failure_class);
}

FailureClass from_proto(v1::FailureClass proto) {
  return kFailureClasses.from(proto, FailureClass::kExitCode);
}

v1::FailureReport to_proto(const FailureReport& report) {
  v1::FailureReport proto;
  proto.set_failure_class(to_proto(report.failure_class));
  if (report.rank) proto.set_rank(static_cast<uint32_t>(*report.rank));
  proto.set_worker_id(report.worker);
  proto.set_host(report.host);
  proto.set_pid(report.pid);
  proto.set_exit_code(report.exit_code);
  proto.set_signal(report.signal);
  proto.set_message(report.message);
  proto.mutable_evidence()->Assign(report.evidence.begin(), report.evidence.end());
  proto.mutable_last_lines()->Assign(report.last_lines.begin(), report.last_lines.end());
  proto.mutable_victims()->Assign(report.victims.begin(), report.victims.end());
  proto.mutable_backtrace()->Assign(report.backtrace.begin(), report.backtrace.end());
  return proto;
}

FailureReport from_proto(const v1::FailureReport& proto) {
  FailureReport report;
  report.failure_class = from_proto(proto.failure_class());
  if (proto.has_rank()) report.rank = to_int(proto.rank());
  report.worker = proto.worker_id();
  report.host = proto.host();
  report.pid = proto.pid();
  report.exit_code = proto.exit_code();
  report.signal = proto.signal();
  report.message = proto.message();
  report.evidence = vector_from<std::string>(proto.evidence());
  report.last_lines = vector_from<std::string>(proto.last_lines());
  report.victims = vector_from<Rank>(proto.victims());
  report.backtrace = vector_from<std::string>(proto.backtrace());
  return report;
}

v1::StopOrigin to_proto(const StopOrigin& origin) {
  v1::StopOrigin proto;
  proto.set_user(origin.user);
  proto.set_host(origin.host);
  proto.set_command(origin.command);
  proto.set_unix_ms(origin.unix_ms);
  return proto;
}

StopOrigin from_proto(const v1::StopOrigin& proto) {
  // It is kept with the job, and shown to everybody who asks about it.
  constexpr size_t kLongest = 256;
  return {proto.user().substr(0, kLongest), proto.host().substr(0, kLongest),
          proto.command().substr(0, kLongest), proto.unix_ms()};
}

v1::Hang to_proto(const Hang& hang) {
  v1::Hang proto;
  if (hang.rank) proto.set_rank(static_cast<uint32_t>(*hang.rank));
  proto.mutable_waiting()->Assign(hang.waiting.begin(), hang.waiting.end());
  proto.set_unix_ms_since(hang.unix_ms_since);
  proto.set_message(hang.message);
  proto.set_process_state(hang.process_state);
  proto.mutable_stack()->Assign(hang.stack.begin(), hang.stack.end());
  return proto;
}

Hang from_proto(const v1::Hang& proto) {
  Hang hang;
  if (proto.has_rank()) hang.rank = to_int(proto.rank());
  hang.waiting = vector_from<Rank>(proto.waiting());
  hang.unix_ms_since = proto.unix_ms_since();
  hang.message = proto.message();
  hang.process_state = proto.process_state();
  hang.stack = vector_from<std::string>(proto.stack());
  return hang;
}

v1::JobStatus to_proto(const JobStatus& job) {
  v1::JobStatus proto;
  proto.set_job_id(job.id);
  proto.set_life(job.life);
  *proto.mutable_spec() = to_proto(job.spec);
  proto.set_state(to_proto(job.state));
  proto.set_reason(job.reason);
  proto.set_generation(job.generation);
  for (const RankRecord& rank : job.ranks) *proto.add_ranks() = to_proto(rank);
  if (job.array) *proto.mutable_array() = to_proto(*job.array);
  if (job.failure) *proto.mutable_failure() = to_proto(*job.failure);
  if (job.hang) *proto.mutable_hang() = to_proto(*job.hang);
  proto.set_exit_code(job.exit_code);
  proto.set_restarts(static_cast<uint32_t>(job.restarts));
  proto.set_node_restarts(static_cast<uint32_t>(job.node_restarts));
  proto.set_oom_restarts(static_cast<uint32_t>(job.oom_restarts));
  proto.set_preemptions(static_cast<uint32_t>(job.preemptions));
  for (const FailureReport& failure : job.earlier_failures) {
    *proto.add_earlier_failures() = to_proto(failure);
  }
  proto.set_unix_ms_submitted(job.unix_ms_submitted);
  proto.set_unix_ms_started(job.unix_ms_started);
  proto.set_unix_ms_ended(job.unix_ms_ended);
  proto.set_unix_ms_expected_start(job.unix_ms_expected_start);
  if (job.stopped_by) *proto.mutable_stopped_by() = to_proto(*job.stopped_by);
  return proto;
}

JobStatus from_proto(const v1::JobStatus& proto) {
  JobStatus job;
  job.id = proto.job_id();
  job.life = proto.life();
  job.spec = from_proto(proto.spec());
  job.state = from_proto(proto.state());
  job.reason = proto.reason();
  job.generation = proto.generation();
  for (const v1::RankStatus& rank : proto.ranks()) job.ranks.push_back(from_proto(rank));
  if (proto.has_array()) job.array = from_proto(proto.array());
  if (proto.has_failure()) job.failure = from_proto(proto.failure());
  if (proto.has_hang()) job.hang = from_proto(proto.hang());
  job.exit_code = proto.exit_code();
  job.restarts = to_int(proto.restarts());
  job.node_restarts = to_int(proto.node_restarts());
  job.oom_restarts = to_int(proto.oom_restarts());
  job.preemptions = to_int(proto.preemptions());
  for (const v1::FailureReport& failure : proto.earlier_failures()) {
    job.earlier_failures.push_back(from_proto(failure));
  }
  job.unix_ms_submitted = proto.unix_ms_submitted();
  job.unix_ms_started = proto.unix_ms_started();
  job.unix_ms_ended = proto.unix_ms_ended();
  job.unix_ms_expected_start = proto.unix_ms_expected_start();
  if (proto.has_stopped_by()) job.stopped_by = from_proto(proto.stopped_by());
  return job;
}

}  // namespace longhaul

#include "control/client/convert.h"

#include "control/common/grpc_error.h"

namespace longhaul {
namespace {

JobState state_from(v1::JobState state) {
  switch (state) {
    case v1::JOB_STATE_PENDING:
      return JobState::kPending;
    case v1::JOB_STATE_STARTING:
      return JobState::kStarting;
    case v1::JOB_STATE_RUNNING:
      return JobState::kRunning;
    case v1::JOB_STATE_STOPPING:
      return JobState::kStopping;
    case v1::JOB_STATE_SUCCEEDED:
      return JobState::kSucceeded;
    case v1::JOB_STATE_FAILED:
      return JobState::kFailed;
    case v1::JOB_STATE_STOPPED:
      return JobState::kStopped;
    default:
      return JobState::kUnknown;
  }
}

RankState state_from(v1::RankState state) {
  switch (state) {
    case v1::RANK_STATE_ASSIGNED:
      return RankState::kAssigned;
    case v1::RANK_STATE_SPAWNED:
      return RankState::kSpawned;
    case v1::RANK_STATE_JOINED:
      return RankState::kJoined;
    case v1::RANK_STATE_LEFT:
      return RankState::kLeft;
    case v1::RANK_STATE_EXITED:
      return RankState::kExited;
    case v1::RANK_STATE_LOST:
      return RankState::kLost;
    default:
      return RankState::kUnknown;
  }
}

FailureClass class_from(v1::FailureClass failure_class) {
  switch (failure_class) {
    case v1::FAILURE_CLASS_EXIT_CODE:
      return FailureClass::kExitCode;
    case v1::FAILURE_CLASS_SIGNAL:
      return FailureClass::kSignal;
    case v1::FAILURE_CLASS_EXCEPTION:
      return FailureClass::kException;
    case v1::FAILURE_CLASS_LAUNCH:
      return FailureClass::kLaunch;
    case v1::FAILURE_CLASS_JOIN_TIMEOUT:
      return FailureClass::kJoinTimeout;
    case v1::FAILURE_CLASS_EARLY_EXIT:
      return FailureClass::kEarlyExit;
    case v1::FAILURE_CLASS_HANG:
      return FailureClass::kHang;
    case v1::FAILURE_CLASS_WORKER_LOST:
      return FailureClass::kWorkerLost;
    case v1::FAILURE_CLASS_NO_ROOM:
      return FailureClass::kNoRoom;
    default:
      return FailureClass::kUnknown;
  }
}

NodeState state_from(v1::NodeState state) {
  switch (state) {
    case v1::NODE_STATE_READY:
      return NodeState::kReady;
    case v1::NODE_STATE_UNREACHABLE:
      return NodeState::kUnreachable;
    case v1::NODE_STATE_LOST:
      return NodeState::kLost;
    default:
      return NodeState::kUnknown;
  }
}

RankProgress from_proto(const v1::Progress& proto) {
  RankProgress progress;
  progress.step = proto.step();
  progress.total_steps = proto.total_steps();
  progress.loss = proto.loss();
  progress.has_loss = proto.has_loss();
  progress.tokens_per_second = proto.tokens_per_second();
  progress.communication_share = proto.communication_share();
  progress.bytes_raw = proto.bytes_raw();
  progress.bytes_sent = proto.bytes_sent();
  progress.codec = proto.codec();
  progress.collective_sequence = proto.collective_sequence();
  progress.operation = proto.operation();
  return progress;
}

RankFault from_proto(const v1::Fault& proto) {
  return {error_kind_from(proto.kind()), proto.message(), proto.peer()};
}

template <typename To, typename List>
std::vector<To> vector_from(const List& list) {
  return {list.begin(), list.end()};
}

}  // namespace

v1::JobSpec to_proto(const JobSpec& spec) {
  v1::JobSpec proto;
  proto.set_name(spec.name);
  proto.mutable_command()->Assign(spec.command.begin(), spec.command.end());
  proto.mutable_env()->insert(spec.env.begin(), spec.env.end());
  proto.set_working_directory(spec.working_directory);
  proto.set_ranks(spec.ranks);
  proto.set_fail_when_full(spec.fail_when_full);
  proto.set_join_timeout_ms(static_cast<uint32_t>(spec.join_timeout.count()));
  proto.set_grace_ms(static_cast<uint32_t>(spec.grace.count()));
  proto.set_max_ranks_per_worker(spec.max_ranks_per_worker);
  return proto;
}

JobSpec from_proto(const v1::JobSpec& proto) {
  JobSpec spec;
  spec.name = proto.name();
  spec.command = vector_from<std::string>(proto.command());
  spec.env = {proto.env().begin(), proto.env().end()};
  spec.working_directory = proto.working_directory();
  spec.ranks = proto.ranks();
  spec.fail_when_full = proto.fail_when_full();
  spec.join_timeout = milliseconds(proto.join_timeout_ms());
  spec.grace = milliseconds(proto.grace_ms());
  spec.max_ranks_per_worker = proto.max_ranks_per_worker();
  return spec;
}

RankStatus from_proto(const v1::RankStatus& proto) {
  RankStatus status;
  status.rank = static_cast<Rank>(proto.rank());
  status.worker_id = proto.worker_id();
  status.host = proto.host();
  status.pid = proto.pid();
  status.state = state_from(proto.state());
  status.exit_code = proto.exit_code();
  status.signal = proto.signal();
  status.victim = proto.victim();
  if (proto.has_progress()) status.progress = from_proto(proto.progress());
  if (proto.has_fault()) status.fault = from_proto(proto.fault());
  status.unix_ms_started = static_cast<int64_t>(proto.unix_ms_started());
  status.unix_ms_exited = static_cast<int64_t>(proto.unix_ms_exited());
  return status;
}

FailureReport from_proto(const v1::FailureReport& proto) {
  FailureReport report;
  report.failure_class = class_from(proto.failure_class());
  if (proto.has_rank()) report.rank = static_cast<Rank>(proto.rank());
  report.worker_id = proto.worker_id();
  report.host = proto.host();
  report.pid = proto.pid();
  report.exit_code = proto.exit_code();
  report.signal = proto.signal();
  report.message = proto.message();
  report.evidence = vector_from<std::string>(proto.evidence());
  report.last_lines = vector_from<std::string>(proto.last_lines());
  report.victims = vector_from<Rank>(proto.victims());
  return report;
}

JobStatus from_proto(const v1::JobStatus& proto) {
  JobStatus status;
  status.job_id = proto.job_id();
  status.spec = from_proto(proto.spec());
  status.state = state_from(proto.state());
  status.reason = proto.reason();
  status.generation = proto.generation();
  for (const v1::RankStatus& rank : proto.ranks()) status.ranks.push_back(from_proto(rank));
  if (proto.has_failure()) status.failure = from_proto(proto.failure());
  status.exit_code = proto.exit_code();
  status.unix_ms_submitted = static_cast<int64_t>(proto.unix_ms_submitted());
  status.unix_ms_started = static_cast<int64_t>(proto.unix_ms_started());
  status.unix_ms_ended = static_cast<int64_t>(proto.unix_ms_ended());
  return status;
}

NodeStatus from_proto(const v1::Node& proto) {
  NodeStatus node;
  node.worker_id = proto.worker_id();
  node.host = proto.host();
  node.address = proto.address();
  node.state = state_from(proto.state());
  node.slots = proto.slots();
  node.used_slots = proto.used_slots();
  node.pid = proto.pid();
  node.version = proto.version();
  node.unix_ms_last_heard = static_cast<int64_t>(proto.unix_ms_last_heard());
  node.jobs = vector_from<JobId>(proto.jobs());
  return node;
}

OutputPiece from_proto(const v1::Output& proto) {
  return {static_cast<Rank>(proto.rank()), proto.stream() == v1::OUTPUT_STREAM_STDERR,
          proto.offset(), proto.data()};
}

}  // namespace longhaul

#include "control/convert/worker_proto.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "agent/client/coordinator_proto.h"
#include "agent/client/enum_pairs.h"
#include "base/capped.h"

namespace longhaul {
namespace {

constexpr EnumPairs kWorkerStates = {
    std::pair{WorkerState::kReady, v1::NODE_STATE_READY},
    std::pair{WorkerState::kUnreachable, v1::NODE_STATE_UNREACHABLE},
    std::pair{WorkerState::kLost, v1::NODE_STATE_LOST},
};

constexpr EnumPairs kStoreOperations = {
    std::pair{StoreOperation::kSet, v1::StoreRequest::SET},
    std::pair{StoreOperation::kGet, v1::StoreRequest::GET},
    std::pair{StoreOperation::kWait, v1::StoreRequest::WAIT},
    std::pair{StoreOperation::kAdd, v1::StoreRequest::ADD},
    std::pair{StoreOperation::kCheck, v1::StoreRequest::CHECK},
    std::pair{StoreOperation::kDelete, v1::StoreRequest::DELETE},
    std::pair{StoreOperation::kCompareSet, v1::StoreRequest::COMPARE_SET},
};

// A count from the wire as an int: huge numbers stay huge instead of turning negative.
int to_signed(uint32_t number) {
  return static_cast<int>(
      std::min<uint32_t>(number, static_cast<uint32_t>(std::numeric_limits<int>::max())));
}

std::vector<std::string> lines_from(const auto& proto) {
  return capped({proto.begin(), proto.end()}, limits::kLines, limits::kLine);
}

// The innermost ones come first, and say most.
std::vector<std::string> frames_from(const auto& proto) {
  const auto count = std::min<std::ptrdiff_t>(proto.size(), limits::kLines);
  return capped({proto.begin(), proto.begin() + count}, limits::kLines, limits::kLine);
}

LaunchId launch_of(const auto& proto) {
  return {proto.job_id(), proto.generation(), proto.life()};
}

void set_launch(auto* proto, const LaunchId& launch) {
  proto->set_job_id(launch.job);
  proto->set_generation(launch.generation);
  proto->set_life(launch.life);
}

void fill(v1::StoreReply* proto, const StoreResult& result) {
  if (result.failure) {
    proto->set_error_kind(std::string(to_string(result.failure->kind)));
    proto->set_error(result.failure->message);
  }
  proto->set_value(result.value);
  proto->set_amount(result.amount);
}

// One overload for each message to a worker.

void fill(v1::MasterMessage* proto, const RegisteredMessage& message) {
  v1::Registered* registered = proto->mutable_registered();
  registered->set_worker_id(message.id);
  registered->set_life(message.life);
  registered->set_heartbeat_interval_ms(static_cast<uint32_t>(message.heartbeat_interval.count()));
  registered->set_lease_ms(static_cast<uint32_t>(message.lease.count()));
  // The worker stops both kinds; of those that are over it still sends the output.
  for (const LaunchId& launch : message.unknown) set_launch(registered->add_unknown(), launch);
  for (const LaunchId& launch : message.over) {
    v1::Inventory* over = registered->add_unknown();
    set_launch(over, launch);
    over->set_output_wanted(true);
  }
}

void fill(v1::MasterMessage* proto, const RefusedMessage& message) {
  proto->mutable_refused()->set_reason(message.reason);
}

void fill(v1::MasterMessage* proto, const PrepareMessage& message) {
  v1::Prepare* prepare = proto->mutable_prepare();
  set_launch(prepare, message.launch);
  *prepare->mutable_spec() = to_proto(message.spec);
  prepare->set_want_port(message.want_port);
}

void fill(v1::MasterMessage* proto, const LaunchMessage& message) {
  v1::Launch* launch = proto->mutable_launch();
  set_launch(launch, message.launch);
  *launch->mutable_spec() = to_proto(message.spec);
  for (const Rank rank : message.ranks) launch->add_ranks(static_cast<uint32_t>(rank));
  launch->set_node_rank(static_cast<uint32_t>(message.node_rank));
  launch->set_node_count(static_cast<uint32_t>(message.node_count));
  launch->set_master_addr(message.master_addr);
  launch->set_master_port(static_cast<uint32_t>(message.master_port));
  launch->set_restarts(static_cast<uint32_t>(message.restarts));
  launch->mutable_gpus()->Assign(message.gpus.begin(), message.gpus.end());
}

void fill(v1::MasterMessage* proto, const StopRanksMessage& message) {
  v1::StopRanks* stop = proto->mutable_stop_ranks();
  set_launch(stop, message.launch);
  stop->set_grace_ms(static_cast<uint32_t>(message.grace.count()));
  stop->set_reason(message.reason);
}

void fill(v1::MasterMessage* proto, const LookAtRankMessage& message) {
  v1::LookAtRank* look = proto->mutable_look_at_rank();
  set_launch(look, message.launch);
  look->set_rank(static_cast<uint32_t>(message.rank));
}

// Without the inputs: Core::fill_inputs() adds them, when the message is sent.
void fill(v1::MasterMessage* proto, const GrantTasksMessage& message) {
  v1::GrantTasks* grant = proto->mutable_grant_tasks();
  set_launch(grant, message.launch);
  *grant->mutable_spec() = to_proto(message.spec);
  for (const TaskBatch& one : message.batches) {
    v1::TaskBatch* batch = grant->add_batches();
    batch->mutable_gpus()->Assign(one.gpus.begin(), one.gpus.end());
    for (const Lease& lease : one.leases) fill(batch->add_tasks()->mutable_lease(), lease);
  }
}

void fill(v1::MasterMessage* proto, const TaskAnswersMessage& message) {
  add_answers(proto->mutable_task_answers(), message);
}

void fill(v1::MasterMessage* proto, const StoreAnswerMessage& message) {
  proto->mutable_store_answer()->set_call_id(message.call_id);
  fill(proto->mutable_store_answer()->mutable_reply(), message.result);
}

void fill(v1::MasterMessage* proto, const ShardAnswerMessage& message) {
  v1::StoreAnswer* answer = proto->mutable_store_answer();
  answer->set_call_id(message.call_id);
  if (message.failure) {
    fill(answer->mutable_reply(), StoreResult{message.failure, "", 0});
  } else {
    *answer->mutable_reply()->mutable_shards() = to_proto(message.answer);
  }
}

void fill(v1::MasterMessage* proto, const HeartbeatMessage& message) {
  proto->mutable_heartbeat()->set_sequence(message.sequence);
}

}  // namespace

WorkerState from_proto(v1::NodeState state) {
  return kWorkerStates.from(state, WorkerState::kUnreachable);
}

v1::Node to_proto(const NodeStatus& node) {
  const WorkerRegistration& registration = node.worker.registration;
  v1::Node proto;
  proto.set_worker_id(node.worker.id);
  proto.set_host(registration.host);
  proto.set_address(registration.address);
  proto.set_state(kWorkerStates.to(node.worker.state));
  proto.set_slots(static_cast<uint32_t>(registration.slots));
  proto.set_used_slots(static_cast<uint32_t>(node.used.slots));
  proto.set_gpus(static_cast<uint32_t>(registration.gpus));
  proto.set_used_gpus(static_cast<uint32_t>(node.used.gpus));
  proto.set_memory_bytes(registration.memory_bytes);
  proto.set_used_memory_bytes(node.used.memory_bytes);
  proto.set_pid(registration.pid);
  proto.set_version(registration.version);
  proto.set_unix_ms_last_heard(node.worker.unix_ms_last_heard);
  for (const JobId& job : node.jobs) proto.add_jobs(job);
  proto.set_drained(node.worker.drained);
  return proto;
}

void add_answers(v1::TaskAnswers* proto, const TaskAnswersMessage& message) {
  proto->mutable_taken()->Add(message.taken.begin(), message.taken.end());
  proto->mutable_stale()->Add(message.stale.begin(), message.stale.end());
}

void fill(v1::MasterMessage* proto, const ToWorker& message,
          const std::string& master_incarnation) {
  std::visit([&](const auto& one) { fill(proto, one); }, message);
  if (proto->has_registered()) {
    proto->mutable_registered()->set_master_incarnation(master_incarnation);
  }
}

WorkerRegistration from_proto(const v1::Register& proto) {
  WorkerRegistration registration;
  registration.wanted_id = proto.worker_id();
  registration.incarnation = proto.incarnation();
  registration.host = proto.host();
  registration.address = proto.address();
  registration.slots = to_signed(proto.slots());
  registration.pid = proto.pid();
  registration.version = proto.version();
  for (const v1::Inventory& launch : proto.inventory()) {
    registration.inventory.push_back(launch_of(launch));
  }
  for (const v1::HeldLease& held : proto.leases()) {
    registration.leases.push_back({launch_of(held),
                                   from_proto(held.lease()),
                                   held.batch(),
                                   {held.gpus().begin(), held.gpus().end()}});
  }
  registration.gpus = to_signed(proto.gpus());
  registration.memory_bytes = proto.memory_bytes();
  return registration;
}

RankExit from_proto(const v1::RankExited& proto) {
  RankExit exit;
  exit.exit_code = proto.exit_code();
  exit.signal = proto.signal();
  exit.stopped_by_us = proto.stopped_by_us();
  exit.launch_error = capped(proto.launch_error(), limits::kSentence);
  exit.last_lines = lines_from(proto.last_lines());
  exit.process_state = capped(proto.process_state(), limits::kWord);
  exit.preempted = proto.preempted();
  exit.evidence = {
      capped(proto.exception(), limits::kSentence), capped(proto.cannot_run(), limits::kSentence),
      capped(proto.out_of_memory(), limits::kSentence), frames_from(proto.backtrace())};
  return exit;
}

v1::RankExited to_proto(const RankExit& exit) {
  v1::RankExited proto;
  proto.set_exit_code(exit.exit_code);
  proto.set_signal(exit.signal);
  proto.set_stopped_by_us(exit.stopped_by_us);
  proto.set_launch_error(exit.launch_error);
  proto.mutable_last_lines()->Assign(exit.last_lines.begin(), exit.last_lines.end());
  proto.set_process_state(exit.process_state);
  proto.set_preempted(exit.preempted);
  proto.set_exception(exit.evidence.exception);
  proto.set_cannot_run(exit.evidence.cannot_run);
  proto.set_out_of_memory(exit.evidence.out_of_memory);
  proto.mutable_backtrace()->Assign(exit.evidence.backtrace.begin(), exit.evidence.backtrace.end());
  return proto;
}

v1::Register to_proto(const WorkerRegistration& registration) {
  v1::Register proto;
  proto.set_worker_id(registration.wanted_id);
  proto.set_incarnation(registration.incarnation);
  proto.set_host(registration.host);
  proto.set_address(registration.address);
  proto.set_slots(static_cast<uint32_t>(registration.slots));
  proto.set_pid(registration.pid);
  proto.set_version(registration.version);
  for (const LaunchId& launch : registration.inventory) set_launch(proto.add_inventory(), launch);
  proto.set_gpus(static_cast<uint32_t>(registration.gpus));
  proto.set_memory_bytes(registration.memory_bytes);
  return proto;
}

TaskEndedMessage from_proto(const v1::TaskEnded& proto) {
  const uint64_t ran_ms = proto.has_ran_ms() ? proto.ran_ms() : kNotMeasured;
  TaskEndedMessage message{launch_of(proto),
                           from_proto(proto.lease()),
                           from_proto(proto.exit()),
                           capped(proto.refused(), limits::kSentence),
                           static_cast<uint32_t>(std::min<uint64_t>(ran_ms, kNotMeasured)),
                           proto.host_fault()};
  // An exit that is missing reads as code 0, and must not be taken for success.
  if (!proto.has_exit()) {
    message.refused = "its worker did not say how it ended";
    message.host_fault = true;
  }
  return message;
}

PreparedMessage from_proto(const v1::Prepared& proto) {
  return {launch_of(proto), capped(proto.error(), limits::kSentence), to_signed(proto.port()),
          proto.exit_code()};
}

std::optional<RankEventMessage> from_proto(const v1::RankEvent& proto) {
  RankEventMessage message{launch_of(proto), to_signed(proto.rank()), RankJoined{}};
  switch (proto.event_case()) {
    case v1::RankEvent::kSpawned:
      message.change = RankSpawned{proto.spawned().pid()};
      break;
    case v1::RankEvent::kJoined:
      message.change = RankJoined{};
      break;
    case v1::RankEvent::kProgress:
      message.change = from_proto(proto.progress());
      break;
    case v1::RankEvent::kFault:
      message.change = from_proto(proto.fault());
      break;
    case v1::RankEvent::kLeft:
      message.change = RankLeft{};
      break;
    case v1::RankEvent::kLook:
      message.change = RankLook{capped(proto.look().process_state(), limits::kWord)};
      break;
    case v1::RankEvent::kExited:
      message.change = from_proto(proto.exited());
      break;
    default:
      return std::nullopt;  // of a newer worker
  }
  return message;
}

ShardCallMessage shard_call_from(const v1::StoreCall& proto) {
  return {proto.call_id(), launch_of(proto), to_signed(proto.rank()),
          from_proto(proto.request().shards())};
}

std::optional<StoreCallMessage> from_proto(const v1::StoreCall& proto) {
  const v1::StoreRequest& request = proto.request();
  if (!kStoreOperations.knows(request.operation())) return std::nullopt;
  StoreCallMessage message;
  message.call_id = proto.call_id();
  message.launch = launch_of(proto);
  message.rank = to_signed(proto.rank());
  message.command.operation = kStoreOperations.from(request.operation(), StoreOperation::kGet);
  message.command.keys = {request.keys().begin(), request.keys().end()};
  message.command.values = {request.values().begin(), request.values().end()};
  message.command.amount = request.amount();
  message.command.timeout = milliseconds(request.timeout_ms());
  return message;
}

}  // namespace longhaul

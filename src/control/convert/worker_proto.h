// proto/longhaul/v1 <-> the values of the cluster. Nothing that a peer sends is trusted here: texts
// are cut, numbers are bounded, and what is not known, from a newer worker, becomes nullopt and is
// ignored by the caller. Jobs: control/convert/job_proto.h.
#pragma once

#include <optional>

#include "agent/client/shard_proto.h"
#include "cluster/cluster_messages.h"
#include "cluster/cluster_state.h"
#include "control/convert/job_proto.h"
#include "longhaul/v1/job_service.pb.h"
#include "longhaul/v1/worker_service.pb.h"

namespace longhaul {

v1::Node to_proto(const NodeStatus& node);
// Of a state that we do not know: kUnreachable.
WorkerState from_proto(v1::NodeState state);

// Into an empty message, in place, so that all of it lies on that one's arena.
void fill(v1::MasterMessage* proto, const ToWorker& message, const std::string& master_incarnation);
void add_answers(v1::TaskAnswers* proto, const TaskAnswersMessage& message);

WorkerRegistration from_proto(const v1::Register& proto);
v1::Register to_proto(const WorkerRegistration& registration);
RankExit from_proto(const v1::RankExited& proto);
v1::RankExited to_proto(const RankExit& exit);
TaskEndedMessage from_proto(const v1::TaskEnded& proto);
PreparedMessage from_proto(const v1::Prepared& proto);
std::optional<RankEventMessage> from_proto(const v1::RankEvent& proto);
std::optional<StoreCallMessage> from_proto(const v1::StoreCall& proto);
// Of a StoreCall whose operation is SHARDS.
ShardCallMessage shard_call_from(const v1::StoreCall& proto);

}  // namespace longhaul

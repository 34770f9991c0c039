#include "control/convert/event_proto.h"

#include <algorithm>
#include <span>

#include "agent/client/enum_pairs.h"
#include "control/convert/job_proto.h"

namespace longhaul {
namespace {

constexpr EnumPairs kEventKinds = {
    std::pair{EventKind::kOther, v1::EVENT_KIND_UNSPECIFIED},
    std::pair{EventKind::kMasterStarted, v1::EVENT_KIND_MASTER_STARTED},
    std::pair{EventKind::kJobSubmitted, v1::EVENT_KIND_JOB_SUBMITTED},
    std::pair{EventKind::kJobPlaced, v1::EVENT_KIND_JOB_PLACED},
    std::pair{EventKind::kJobStarted, v1::EVENT_KIND_JOB_STARTED},
    std::pair{EventKind::kJobStopping, v1::EVENT_KIND_JOB_STOPPING},
    std::pair{EventKind::kJobFailedAttempt, v1::EVENT_KIND_JOB_FAILED_ATTEMPT},
    std::pair{EventKind::kJobRestarted, v1::EVENT_KIND_JOB_RESTARTED},
    std::pair{EventKind::kJobEnded, v1::EVENT_KIND_JOB_ENDED},
    std::pair{EventKind::kWorkerRegistered, v1::EVENT_KIND_WORKER_REGISTERED},
    std::pair{EventKind::kWorkerUnreachable, v1::EVENT_KIND_WORKER_UNREACHABLE},
    std::pair{EventKind::kWorkerReturned, v1::EVENT_KIND_WORKER_RETURNED},
    std::pair{EventKind::kWorkerLost, v1::EVENT_KIND_WORKER_LOST},
    std::pair{EventKind::kWorkerDrained, v1::EVENT_KIND_WORKER_DRAINED},
    std::pair{EventKind::kWorkerUndrained, v1::EVENT_KIND_WORKER_UNDRAINED},
    std::pair{EventKind::kWorkerForgotten, v1::EVENT_KIND_WORKER_FORGOTTEN},
};

// Of each list in an explanation: more is nothing that anybody reads.
constexpr size_t kExplained = 1000;

uint32_t left_out(size_t count) {
  return static_cast<uint32_t>(count - std::min(count, kExplained));
}

template <typename Value>
std::span<const Value> first_of(const std::vector<Value>& values) {
  return std::span(values).first(std::min(values.size(), kExplained));
}

}  // namespace

v1::Event to_proto(const ClusterEvent& event) {
  v1::Event proto;
  proto.set_number(event.number);
  proto.set_unix_ms(event.unix_ms);
  proto.set_kind(kEventKinds.to(event.kind));
  proto.set_job_id(event.job);
  proto.set_worker_id(event.worker);
  proto.set_generation(event.generation);
  if (event.rank) proto.set_rank(static_cast<uint32_t>(*event.rank));
  proto.set_text(event.text);
  return proto;
}

ClusterEvent from_proto(const v1::Event& proto) {
  ClusterEvent event;
  event.number = proto.number();
  event.unix_ms = proto.unix_ms();
  event.kind = kEventKinds.from(proto.kind(), EventKind::kOther);
  event.job = proto.job_id();
  event.worker = proto.worker_id();
  event.generation = proto.generation();
  if (proto.has_rank()) event.rank = static_cast<Rank>(proto.rank());
  event.text = proto.text();
  return event;
}

v1::ExplainJobReply to_proto(const Explanation& explanation) {
  v1::ExplainJobReply proto;
  proto.set_job_id(explanation.job);
  proto.set_state(to_proto(explanation.state));
  proto.set_reason(explanation.reason);
  for (const std::string& help : explanation.help) proto.add_help(help);
  proto.mutable_details()->Assign(explanation.details.begin(), explanation.details.end());
  proto.set_more_nodes(static_cast<uint32_t>(explanation.more_nodes) +
                       left_out(explanation.nodes.size()));
  proto.set_more_ahead(static_cast<uint32_t>(explanation.more_ahead) +
                       left_out(explanation.ahead.size()));
  for (const ExplainedNode& node : first_of(explanation.nodes)) {
    v1::ExplainedNode* one = proto.add_nodes();
    one->set_worker_id(node.id);
    one->set_slots(static_cast<uint32_t>(node.slots));
    one->set_free(static_cast<uint32_t>(node.free));
    one->set_verdict(node.verdict);
  }
  for (const JobAhead& job : first_of(explanation.ahead)) {
    v1::ExplainedJob* one = proto.add_ahead();
    one->set_job_id(job.id);
    one->set_name(job.name);
    one->set_state(to_proto(job.state));
    one->set_slots_held(static_cast<uint32_t>(job.slots_held));
  }
  return proto;
}

Explanation from_proto(const v1::ExplainJobReply& proto) {
  Explanation explanation;
  explanation.job = proto.job_id();
  explanation.state = from_proto(proto.state());
  explanation.reason = proto.reason();
  explanation.help = {proto.help().begin(), proto.help().end()};
  explanation.details = {proto.details().begin(), proto.details().end()};
  for (const v1::ExplainedNode& node : proto.nodes()) {
    explanation.nodes.push_back({node.worker_id(), static_cast<int>(node.slots()),
                                 static_cast<int>(node.free()), node.verdict()});
  }
  for (const v1::ExplainedJob& job : proto.ahead()) {
    explanation.ahead.push_back(
        {job.job_id(), job.name(), from_proto(job.state()), static_cast<int>(job.slots_held())});
  }
  explanation.more_nodes = proto.more_nodes();
  explanation.more_ahead = proto.more_ahead();
  return explanation;
}

}  // namespace longhaul

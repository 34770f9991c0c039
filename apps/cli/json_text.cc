#include "apps/cli/json_text.h"

#include <nlohmann/json.hpp>

#include "apps/cli/names.h"
#include "apps/cli/progress.h"

namespace longhaul::cli {
namespace {

using Json = nlohmann::ordered_json;

Json name(std::string_view text) {
  return Json(std::string(text));
}

Json spec_json(const JobSpec& spec) {
  return {{"name", spec.name},
          {"command", spec.command},
          {"env", spec.env},
          {"working_directory", spec.working_directory},
          {"ranks", spec.ranks},
          {"fail_when_full", spec.fail_when_full},
          {"join_timeout_ms", spec.join_timeout.count()},
          {"grace_ms", spec.grace.count()},
          {"max_ranks_per_worker", spec.max_ranks_per_worker},
          {"min_nodes", spec.min_nodes},
          {"max_restarts", spec.max_restarts},
          {"max_node_restarts", spec.max_node_restarts},
          {"max_oom_restarts", spec.max_oom_restarts},
          {"max_preemptions", spec.max_preemptions},
          {"time_limit_ms", spec.time_limit.count()},
          {"gpus_per_rank", spec.gpus_per_rank},
          {"memory_per_rank", spec.memory_per_rank},
          {"placement", spec.placement == PlacementStyle::kSpread ? "spread" : "pack"},
          {"priority", spec.priority},
          {"wait_for_nodes", spec.wait_for_nodes},
          {"terminal", spec.terminal}};
}

Json progress_json(const RankProgress& progress) {
  return {{"step", progress.step},
          {"total_steps", progress.total_steps},
          {"loss", progress.has_loss ? Json(progress.loss) : Json(nullptr)},
          {"tokens_per_second", progress.tokens_per_second},
          {"communication_share", progress.communication_share},
          {"bytes_raw", progress.bytes_raw},
          {"bytes_sent", progress.bytes_sent},
          {"codec", progress.codec},
          {"collective_sequence", progress.collective_sequence},
          {"operation", progress.operation}};
}

Json summary_json(const std::vector<RankRecord>& ranks) {
  const std::optional<Progress> progress = summarize(ranks);
  if (!progress) return nullptr;
  return {{"ranks_reporting", progress->ranks_reporting},
          {"step", progress->step},
          {"total_steps", progress->total_steps},
          {"loss", progress->loss ? Json(*progress->loss) : Json(nullptr)},
          {"tokens_per_second", progress->tokens_per_second},
          {"communication_share", progress->communication_share},
          {"bytes_raw", progress->bytes_raw},
          {"bytes_sent", progress->bytes_sent}};
}

Json fault_json(const RankFault& fault) {
  return {{"kind", name(to_string(fault.kind))}, {"message", fault.message}, {"peer", fault.peer}};
}

Json rank_json(const RankRecord& rank) {
  return {{"rank", rank.rank},
          {"worker", rank.worker},
          {"host", rank.host},
          {"pid", rank.pid},
          {"state", name(name_of(rank.state))},
          {"exit_code", rank.exit ? Json(rank.exit->exit_code) : Json(nullptr)},
          {"signal", rank.exit ? rank.exit->signal : 0},
          {"victim", rank.victim},
          {"gpus", rank.gpus},
          {"progress", rank.progress ? progress_json(*rank.progress) : Json(nullptr)},
          {"fault", rank.fault ? fault_json(*rank.fault) : Json(nullptr)},
          {"unix_ms_started", rank.unix_ms_started},
          {"unix_ms_exited", rank.unix_ms_exited}};
}

Json failure_json(const FailureReport& failure) {
  return {{"class", name(to_string(failure.failure_class))},
          {"rank", failure.rank ? Json(*failure.rank) : Json(nullptr)},
          {"worker", failure.worker},
          {"host", failure.host},
          {"pid", failure.pid},
          {"exit_code", failure.exit_code},
          {"signal", failure.signal},
          {"message", failure.message},
          {"evidence", failure.evidence},
          {"last_lines", failure.last_lines},
          {"backtrace", failure.backtrace},
          {"victims", failure.victims}};
}

Json array_json(const JobStatus& job) {
  if (!job.array || !job.spec.array) return nullptr;
  const TaskCounts& counts = job.array->counts;
  Json given_up = Json::array();
  for (const GivenUpTask& task : job.array->given_up) {
    given_up.push_back({{"task", task.task}, {"reason", task.reason}});
  }
  return {{"tasks", job.spec.array->tasks},
          {"indices", job.spec.array->indices},
          {"warm", job.spec.array->warm},
          {"waiting", counts.in(TaskState::kWaiting)},
          {"backing_off", counts.in(TaskState::kBackingOff)},
          {"running", counts.in(TaskState::kLeased)},
          {"done", counts.in(TaskState::kDone)},
          {"given_up", counts.in(TaskState::kQuarantined)},
          {"cancelled", counts.in(TaskState::kCancelled)},
          {"ended_below", job.array->ended_below},
          {"first_given_up", std::move(given_up)}};
}

Json stopped_by_json(const JobStatus& job) {
  if (!job.stopped_by) return nullptr;
  return {{"user", job.stopped_by->user},
          {"host", job.stopped_by->host},
          {"command", job.stopped_by->command},
          {"unix_ms", job.stopped_by->unix_ms}};
}

Json hang_json(const Hang& hang) {
  return {{"rank", hang.rank ? Json(*hang.rank) : Json(nullptr)},
          {"waiting", hang.waiting},
          {"unix_ms_since", hang.unix_ms_since},
          {"message", hang.message},
          {"process_state", hang.process_state},
          {"stack", hang.stack}};
}

Json job_value(const JobStatus& job) {
  Json ranks = Json::array();
  for (const RankRecord& rank : job.ranks) ranks.push_back(rank_json(rank));
  Json earlier = Json::array();
  for (const FailureReport& failure : job.earlier_failures)
    earlier.push_back(failure_json(failure));
  return {{"job", job.id},
          {"state", name(to_string(job.state))},
          {"reason", job.reason},
          {"exit_code", has_ended(job.state) ? Json(job.exit_code) : Json(nullptr)},
          {"generation", job.generation},
          {"spec", spec_json(job.spec)},
          {"progress", summary_json(job.ranks)},
          {"ranks", std::move(ranks)},
          {"array", array_json(job)},
          {"failure", job.failure ? failure_json(*job.failure) : Json(nullptr)},
          {"hang", job.hang ? hang_json(*job.hang) : Json(nullptr)},
          {"restarts", job.restarts},
          {"node_restarts", job.node_restarts},
          {"oom_restarts", job.oom_restarts},
          {"preemptions", job.preemptions},
          {"earlier_failures", std::move(earlier)},
          {"stopped_by", stopped_by_json(job)},
          {"unix_ms_submitted", job.unix_ms_submitted},
          {"unix_ms_started", job.unix_ms_started},
          {"unix_ms_ended", job.unix_ms_ended},
          {"unix_ms_expected_start", job.unix_ms_expected_start}};
}

Json node_value(const NodeInfo& node) {
  return {{"worker", node.id},
          {"host", node.host},
          {"address", node.address},
          {"state", name(to_string(node.state))},
          {"slots", node.slots},
          {"used_slots", node.used_slots},
          {"gpus", node.gpus},
          {"used_gpus", node.used_gpus},
          {"memory_bytes", node.memory_bytes},
          {"used_memory_bytes", node.used_memory_bytes},
          {"pid", node.pid},
          {"version", node.version},
          {"unix_ms_last_heard", node.unix_ms_last_heard},
          {"jobs", node.jobs},
          {"drain", !node.drained           ? "no"
                    : node.empty_for_good() ? "drained"
                                            : "draining"}};
}

// Output lines of a rank may hold any bytes; what is not UTF-8 becomes U+FFFD.
std::string document(const Json& fields) {
  Json whole = {{"schema", kJsonSchema}};
  whole.update(fields);
  return whole.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string jobs_json(const std::vector<JobStatus>& jobs) {
  Json list = Json::array();
  for (const JobStatus& job : jobs) list.push_back(job_value(job));
  return document({{"jobs", std::move(list)}});
}

std::string nodes_json(const std::vector<NodeInfo>& nodes) {
  Json list = Json::array();
  for (const NodeInfo& node : nodes) list.push_back(node_value(node));
  return document({{"nodes", std::move(list)}});
}

std::string job_json(const JobStatus& job) {
  return document(job_value(job));
}

std::string explanation_json(const Explanation& explanation) {
  Json nodes = Json::array();
  for (const ExplainedNode& node : explanation.nodes) {
    nodes.push_back({{"worker", node.id},
                     {"slots", node.slots},
                     {"free", node.free},
                     {"verdict", node.verdict}});
  }
  Json ahead = Json::array();
  for (const JobAhead& job : explanation.ahead) {
    ahead.push_back({{"job", job.id},
                     {"name", job.name},
                     {"state", name(to_string(job.state))},
                     {"slots_held", job.slots_held}});
  }
  return document({{"job", explanation.job},
                   {"state", name(to_string(explanation.state))},
                   {"reason", explanation.reason},
                   {"stack", explanation.details},
                   {"help", explanation.help},
                   {"nodes", std::move(nodes)},
                   {"ahead", std::move(ahead)},
                   {"more_nodes", explanation.more_nodes},
                   {"more_ahead", explanation.more_ahead}});
}

std::string event_json(const ClusterEvent& event) {
  return document({{"number", event.number},
                   {"unix_ms", event.unix_ms},
                   {"event", name(to_string(event.kind))},
                   {"job", event.job},
                   {"worker", event.worker},
                   {"generation", event.generation},
                   {"rank", event.rank ? Json(*event.rank) : Json(nullptr)},
                   {"text", event.text}});
}

std::string submitted_json(const JobId& job) {
  return document({{"job", job}});
}

}  // namespace longhaul::cli

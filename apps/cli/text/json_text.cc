#include "apps/cli/text/json_text.h"

#include <nlohmann/json.hpp>

#include "apps/cli/follow/progress.h"
#include "apps/cli/text/message_json.h"
#include "apps/cli/text/names.h"
#include "control/convert/event_proto.h"
#include "control/convert/job_proto.h"

namespace longhaul::cli {
namespace {

using Json = nlohmann::ordered_json;

Json name(std::string_view text) {
  return Json(std::string(text));
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

// The class as people call it: an enumerator's name is for programs in C++.
void name_class(const FailureReport& failure, Json* json) {
  (*json)["class"] = name(to_string(failure.failure_class));
}

Json array_json(const JobStatus& job, const Json& counts) {
  if (!job.array || !job.spec.array) return nullptr;
  Json json = {{"tasks", job.spec.array->tasks},
               {"indices", job.spec.array->indices},
               {"warm", job.spec.array->warm}};
  json.update(counts);
  return json;
}

// A status as its message shows it, but for what means something else to people: the ranks'
// progress is one, and an exit code is there once there is one.
Json job_value(const JobStatus& job) {
  Json json = message_json(to_proto(job));
  json.erase("life");
  if (!has_ended(job.state)) json["exit_code"] = nullptr;
  json["progress"] = summary_json(job.ranks);
  json["array"] = array_json(job, json["array"]);
  for (size_t i = 0; i < job.ranks.size(); ++i) {
    if (!job.ranks[i].exit) json["ranks"][i]["exit_code"] = nullptr;
  }
  if (job.failure) name_class(*job.failure, &json["failure"]);
  for (size_t i = 0; i < job.earlier_failures.size(); ++i) {
    name_class(job.earlier_failures[i], &json["earlier_failures"][i]);
  }
  return json;
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

}  // namespace

std::string jobs_json(const std::vector<JobStatus>& jobs) {
  Json list = Json::array();
  for (const JobStatus& job : jobs) list.push_back(job_value(job));
  return json_document({{"jobs", std::move(list)}});
}

std::string nodes_json(const std::vector<NodeInfo>& nodes) {
  Json list = Json::array();
  for (const NodeInfo& node : nodes) list.push_back(node_value(node));
  return json_document({{"nodes", std::move(list)}});
}

std::string job_json(const JobStatus& job) {
  return json_document(job_value(job));
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
  return json_document({{"job", explanation.job},
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
  Json json = message_json(to_proto(event));
  json.erase("kind");
  json["event"] = name(to_string(event.kind));
  return json_document(json);
}

std::string submitted_json(const JobId& job) {
  return json_document({{"job", job}});
}

}  // namespace longhaul::cli

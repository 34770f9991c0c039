// What `-o json` has shown since version 1 stays: each key, with a value of its kind. Keys may be
// added.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "apps/cli/text/json_text.h"

namespace longhaul::cli {
namespace {

using nlohmann::json;

// A key that ends with ? may be null.
void expect_keys(const json& document, const json& schema, const std::string& where) {
  for (const auto& [name, kind] : schema.items()) {
    const bool optional = name.ends_with('?');
    const std::string key = optional ? name.substr(0, name.size() - 1) : name;
    ASSERT_TRUE(document.contains(key)) << where << "." << key << " is gone";
    const json& value = document[key];
    if (optional && value.is_null()) continue;
    const std::string at = where + "." + key;
    if (kind.is_object()) {
      ASSERT_TRUE(value.is_object()) << at;
      expect_keys(value, kind, at);
    } else if (kind.is_array()) {
      ASSERT_TRUE(value.is_array()) << at;
      ASSERT_FALSE(value.empty()) << at << ": the test fills every list";
      if (kind[0].is_object()) {
        expect_keys(value[0], kind[0], at);
      } else {
        EXPECT_STREQ(value[0].type_name(), kind[0].get<std::string>().c_str()) << at;
      }
    } else {
      EXPECT_STREQ(value.type_name(), kind.get<std::string>().c_str()) << at;
    }
  }
}

const json kProgress = {{"step", "number"},
                        {"total_steps", "number"},
                        {"loss?", "number"},
                        {"tokens_per_second", "number"},
                        {"communication_share", "number"},
                        {"bytes_raw", "number"},
                        {"bytes_sent", "number"}};

json progress_of_rank() {
  json progress = kProgress;
  progress.update(
      {{"codec", "string"}, {"collective_sequence", "number"}, {"operation", "string"}});
  return progress;
}

const json kSpec = {{"name", "string"},
                    {"command", json::array({"string"})},
                    {"env", {{"A", "string"}}},
                    {"working_directory", "string"},
                    {"ranks", "number"},
                    {"fail_when_full", "boolean"},
                    {"join_timeout_ms", "number"},
                    {"grace_ms", "number"},
                    {"max_ranks_per_worker", "number"},
                    {"min_nodes", "number"},
                    {"max_restarts", "number"},
                    {"max_node_restarts", "number"},
                    {"max_oom_restarts", "number"},
                    {"max_preemptions", "number"},
                    {"time_limit_ms", "number"},
                    {"gpus_per_rank", "number"},
                    {"memory_per_rank", "number"},
                    {"placement", "string"},
                    {"priority", "number"},
                    {"wait_for_nodes", "boolean"},
                    {"terminal", "boolean"}};

const json kFailure = {{"class", "string"},
                       {"rank?", "number"},
                       {"worker", "string"},
                       {"host", "string"},
                       {"pid", "number"},
                       {"exit_code", "number"},
                       {"signal", "number"},
                       {"message", "string"},
                       {"evidence", json::array({"string"})},
                       {"last_lines", json::array({"string"})},
                       {"backtrace", json::array({"string"})},
                       {"victims", json::array({"number"})}};

json rank_schema() {
  return {{"rank", "number"},
          {"worker", "string"},
          {"host", "string"},
          {"pid", "number"},
          {"state", "string"},
          {"exit_code?", "number"},
          {"signal", "number"},
          {"victim", "boolean"},
          {"gpus", json::array({"number"})},
          {"progress?", progress_of_rank()},
          {"fault?", {{"kind", "string"}, {"message", "string"}, {"peer", "number"}}},
          {"unix_ms_started", "number"},
          {"unix_ms_exited", "number"}};
}

json job_schema() {
  json summary = kProgress;
  summary["ranks_reporting"] = "number";
  return {{"schema", "number"},
          {"job", "string"},
          {"state", "string"},
          {"reason", "string"},
          {"exit_code?", "number"},
          {"generation", "number"},
          {"spec", kSpec},
          {"progress?", summary},
          {"ranks", json::array({rank_schema()})},
          {"array?",
           {{"tasks", "number"},
            {"indices", "string"},
            {"warm", "boolean"},
            {"waiting", "number"},
            {"backing_off", "number"},
            {"running", "number"},
            {"done", "number"},
            {"given_up", "number"},
            {"cancelled", "number"},
            {"ended_below", "number"},
            {"first_given_up", json::array({{{"task", "number"}, {"reason", "string"}}})}}},
          {"failure?", kFailure},
          {"hang?",
           {{"rank?", "number"},
            {"waiting", json::array({"number"})},
            {"unix_ms_since", "number"},
            {"message", "string"},
            {"process_state", "string"},
            {"stack", json::array({"string"})}}},
          {"restarts", "number"},
          {"node_restarts", "number"},
          {"oom_restarts", "number"},
          {"preemptions", "number"},
          {"earlier_failures", json::array({kFailure})},
          {"stopped_by?",
           {{"user", "string"}, {"host", "string"}, {"command", "string"}, {"unix_ms", "number"}}},
          {"unix_ms_submitted", "number"},
          {"unix_ms_started", "number"},
          {"unix_ms_ended", "number"},
          {"unix_ms_expected_start", "number"}};
}

JobStatus filled_job() {
  JobStatus job;
  job.id = "j1";
  job.life = 77;
  job.spec.command = {"train"};
  job.spec.env = {{"A", "1"}};
  job.spec.array.emplace();
  job.spec.array->tasks = 3;
  job.spec.array->indices = "0-2";
  job.state = JobState::kFailed;
  RankRecord rank;
  rank.state = RankState::kExited;
  rank.gpus = {1};
  rank.exit.emplace();
  rank.exit->exit_code = 3;
  rank.progress.emplace();
  rank.progress->step = 4;
  rank.progress->loss = 0.5;
  rank.progress->has_loss = true;
  rank.fault = RankFault{ErrorKind::kDeadline, "late", 2};
  job.ranks = {rank, RankRecord{}};
  job.array = ArrayStatus{{}, 1, {{7, "bad"}}};
  FailureReport failure;
  failure.failure_class = FailureClass::kKilled;
  failure.rank = 0;
  failure.evidence = failure.last_lines = failure.backtrace = {"seen"};
  failure.victims = {1};
  job.failure = failure;
  job.earlier_failures = {failure};
  job.hang = Hang{0, {1}, 5, "it waits", "T", {"frame"}};
  job.stopped_by = StopOrigin{"ann", "host-a", "longhaul stop j1", 9};
  return job;
}

TEST(JsonSchema, OfAJob) {
  const json shown = json::parse(job_json(filled_job()));
  expect_keys(shown, job_schema(), "job");
  EXPECT_EQ(shown["failure"]["class"], "kill -9");
  EXPECT_EQ(shown["ranks"][0]["exit_code"], 3);
  EXPECT_TRUE(shown["ranks"][1]["exit_code"].is_null()) << "it has not ended";
  EXPECT_EQ(shown["ranks"][0]["state"], "exited");
  EXPECT_EQ(shown["ranks"][0]["fault"]["kind"], "deadline");
  EXPECT_EQ(shown["spec"]["placement"], "pack");
  EXPECT_FALSE(shown.contains("life")) << "a number that JSON's readers would round";
}

TEST(JsonSchema, OfAJobThatHasJustCome) {
  JobStatus job;
  job.spec.command = {"train"};
  const json shown = json::parse(job_json(job));
  for (const char* absent : {"exit_code", "progress", "array", "failure", "hang", "stopped_by"}) {
    EXPECT_TRUE(shown.contains(absent) && shown[absent].is_null()) << absent;
  }
  EXPECT_TRUE(shown["ranks"].is_array());
  EXPECT_EQ(shown["state"], "pending");
}

TEST(JsonSchema, OfEventsNodesAndExplanations) {
  expect_keys(
      json::parse(event_json({EventKind::kJobFailedAttempt, "j1", "w", 2, 3, "text", 1, 5})),
      {{"schema", "number"},
       {"number", "number"},
       {"unix_ms", "number"},
       {"event", "string"},
       {"job", "string"},
       {"worker", "string"},
       {"generation", "number"},
       {"rank?", "number"},
       {"text", "string"}},
      "event");
  NodeInfo node;
  node.jobs = {"j1"};
  expect_keys(json::parse(nodes_json({node})),
              {{"schema", "number"},
               {"nodes", json::array({{{"worker", "string"},
                                       {"host", "string"},
                                       {"address", "string"},
                                       {"state", "string"},
                                       {"slots", "number"},
                                       {"used_slots", "number"},
                                       {"gpus", "number"},
                                       {"used_gpus", "number"},
                                       {"memory_bytes", "number"},
                                       {"used_memory_bytes", "number"},
                                       {"pid", "number"},
                                       {"version", "string"},
                                       {"unix_ms_last_heard", "number"},
                                       {"jobs", json::array({"string"})},
                                       {"drain", "string"}}})}},
              "nodes");
  Explanation explanation;
  explanation.details = explanation.help = {"so"};
  explanation.nodes = {{"w", 2, 1, "one free"}};
  explanation.ahead = {{"j2", "other", JobState::kRunning, 2}};
  expect_keys(json::parse(explanation_json(explanation)),
              {{"schema", "number"},
               {"job", "string"},
               {"state", "string"},
               {"reason", "string"},
               {"stack", json::array({"string"})},
               {"help", json::array({"string"})},
               {"nodes", json::array({{{"worker", "string"},
                                       {"slots", "number"},
                                       {"free", "number"},
                                       {"verdict", "string"}}})},
               {"ahead", json::array({{{"job", "string"},
                                       {"name", "string"},
                                       {"state", "string"},
                                       {"slots_held", "number"}}})},
               {"more_nodes", "number"},
               {"more_ahead", "number"}},
              "explanation");
}

}  // namespace
}  // namespace longhaul::cli

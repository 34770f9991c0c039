// The commands of `longhaul`, one file each. Each adds its flags to the command line's parser and,
// when it is the one that was asked for, leaves what is to be done in `action`.
#pragma once

#include <CLI/CLI.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli/job_request.h"

namespace longhaul::cli {

// Returns the exit code of the process.
using Action = std::function<int()>;

// `after_dashes`: the words after the command line's first "--", which CLI11 does not see.
void add_run(CLI::App& app, Action* action,
             const std::optional<std::vector<std::string>>& after_dashes);
void add_map(CLI::App& app, Action* action,
             const std::optional<std::vector<std::string>>& after_dashes);
void add_results(CLI::App& app, Action* action);
void add_ps(CLI::App& app, Action* action);
void add_status(CLI::App& app, Action* action);
void add_logs(CLI::App& app, Action* action);
void add_stop(CLI::App& app, Action* action);
void add_wait(CLI::App& app, Action* action);
void add_nodes(CLI::App& app, Action* action);
void add_explain(CLI::App& app, Action* action);
void add_drain(CLI::App& app, Action* action);
void add_events(CLI::App& app, Action* action);
void add_completion(CLI::App& app, Action* action);
// Hidden: `longhaul __complete -- WORD...`, what the completion scripts ask.
void add_complete(CLI::App& app, Action* action,
                  const std::optional<std::vector<std::string>>& after_dashes);

// The program and its arguments: what CLI11 left over of the command's words and what came after
// the dashes. Throws CLI::ExtrasError for a flag among the former: a typo.
std::vector<std::string> program_words(const CLI::App& command,
                                       const std::optional<std::vector<std::string>>& after_dashes);

// --master HOST:PORT, or the environment's LONGHAUL_MASTER.
void add_master_flag(CLI::App& command, std::string* address);
// -o, --output text|json.
void add_output_flag(CLI::App& command, bool* json);
// A duration, "90" (seconds), "90s", "5m", "2h", kept in milliseconds.
CLI::Option* add_seconds_flag(CLI::App& command, const std::string& name,
                              std::chrono::milliseconds* value, const std::string& help);
// --since: a time in the past, or how long ago (time_text.h).
void add_since_flag(CLI::App& command, uint64_t* unix_ms, const std::string& help);
// --gpus-per-NOUN, --mem-per-NOUN, --priority, --wait-for-nodes. `noun`: "rank" or "task"; the
// other one is taken too.
void add_placement_flags(CLI::App& command, JobRequest* request, const std::string& noun);
// --name.
void add_name_flag(CLI::App& command, JobRequest* request);
// --export, --env, --chdir. `whose`: "ranks" or "tasks".
void add_surroundings_flags(CLI::App& command, JobRequest* request, const std::string& whose);
// --raw: what ranks print reaches a terminal as it is.
void add_raw_flag(CLI::App& command, bool* raw);
// JOB: an id, a unique prefix of one, a name or "last".
void add_job_argument(CLI::App& command, std::string* job);

}  // namespace longhaul::cli

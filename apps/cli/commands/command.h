// The commands of `longhaul`, one file each. Each adds its flags to the command line's parser and,
// when it is the one that was asked for, leaves what is to be done in `action`.
#pragma once

#include <CLI/CLI.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli/commands/job_request.h"

namespace longhaul::cli {

// Returns the exit code of the process.
using Action = std::function<int()>;

// The words after the command line's first "--", which CLI11 does not see.
using AfterDashes = std::optional<std::vector<std::string>>;

// Every command, in the order of `longhaul --help`; the last is hidden: `longhaul __complete --
// WORD...`, what the completion scripts ask. A new one is a file here with its add_NAME(), and a
// word in this list.
#define LONGHAUL_COMMANDS(COMMAND) \
  COMMAND(run)                     \
  COMMAND(map)                     \
  COMMAND(results)                 \
  COMMAND(ps)                      \
  COMMAND(status)                  \
  COMMAND(explain)                 \
  COMMAND(logs)                    \
  COMMAND(stop)                    \
  COMMAND(wait)                    \
  COMMAND(nodes)                   \
  COMMAND(drain)                   \
  COMMAND(events)                  \
  COMMAND(completion)              \
  COMMAND(complete)

#define LONGHAUL_DECLARE(name) void add_##name(CLI::App& app, Action* action, const AfterDashes&);
LONGHAUL_COMMANDS(LONGHAUL_DECLARE)
#undef LONGHAUL_DECLARE

// The program and its arguments: what CLI11 left over of the command's words and what came after
// the dashes. Throws CLI::ExtrasError for a flag among the former: a typo.
std::vector<std::string> program_words(const CLI::App& command, const AfterDashes& after_dashes);

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

#include "apps/cli/commands/command.h"
#include "apps/cli/text/time_text.h"
#include "apps/common/flags.h"

namespace longhaul::cli {

void add_master_flag(CLI::App& command, std::string* address) {
  *address = "127.0.0.1:7700";
  command.add_option("--master", *address, "address of longhaul-master")
      ->envname("LONGHAUL_MASTER")
      ->type_name("HOST:PORT")
      ->capture_default_str();
}

void add_output_flag(CLI::App& command, bool* json) {
  command
      .add_option_function<std::string>(
          "-o,--output", [json](const std::string& format) { *json = format == "json"; },
          "text for people (default) or json for programs")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"text", "json"}));
}

CLI::Option* add_seconds_flag(CLI::App& command, const std::string& name,
                              std::chrono::milliseconds* value, const std::string& help) {
  static constexpr std::chrono::milliseconds kShortest{1};
  static constexpr std::chrono::milliseconds kLongest{1'000'000'000};
  return command
      .add_option_function<std::string>(
          name, [value](const std::string& text) { *value = parse_duration(text).value(); }, help)
      ->type_name("DURATION")
      ->check([](const std::string& text) {
        const auto duration = parse_duration(text);
        const bool fits = duration && *duration >= kShortest && *duration <= kLongest;
        return fits ? std::string()
                    : "'" + text + "' is no duration from 1ms to 1000000s: say 90, 90s, 5m or 2h";
      });
}

void add_since_flag(CLI::App& command, uint64_t* unix_ms, const std::string& help) {
  const int64_t now = SystemClock().unix_ms();
  command
      .add_option_function<std::string>(
          "--since",
          [unix_ms, now](const std::string& text) { *unix_ms = parse_since(text, now).value(); },
          help)
      ->type_name("TIME|DURATION")
      ->check([now](const std::string& text) {
        return parse_since(text, now)
                   ? std::string()
                   : "'" + text +
                         "' is no time: say how long ago (90s, 5m, 2h), or when (14:05, "
                         "\"2026-11-21 14:05\", 2026-11-21T14:05:00Z, @1763733000)";
      });
}

void add_placement_flags(CLI::App& command, JobRequest* request, const std::string& noun) {
  command
      .add_option("--gpus-per-" + noun + (noun == "rank" ? ",--gpus-per-task" : ",--gpus-per-rank"),
                  request->spec.gpus_per_rank,
                  "GPUs of each " + noun + ", which sees no others (default 0: it sees all)")
      ->type_name("N")
      ->check(number_between(0, 1024));
  add_bytes_flag(command,
                 "--mem-per-" + noun + (noun == "rank" ? ",--mem-per-task" : ",--mem-per-rank"),
                 &request->spec.memory_per_rank,
                 "memory set aside for each " + noun + ": 500M, 16G, 4GiB (default: none)");
  command
      .add_option("--priority", request->spec.priority,
                  "jobs of higher priority go first, equal ones in order of submission (default 0)")
      ->type_name("N")
      ->check(number_between(-1'000'000, 1'000'000));
  command.add_flag("--pty", request->spec.terminal,
                   "stdout and stderr of each " + noun +
                       " are terminals: programs that would fill a buffer first show every line");
  command.add_flag("--wait-for-nodes", request->spec.wait_for_nodes,
                   "wait for more workers when all there are could never run it");
}

void add_name_flag(CLI::App& command, JobRequest* request) {
  command.add_option("--name", request->name, "a name to find the job by (default: none)");
}

void add_surroundings_flags(CLI::App& command, JobRequest* request, const std::string& whose) {
  command
      .add_option("--export", request->exported,
                  "of this shell's environment, send the " + whose +
                      " all, none, or the variables named; whoever may see the job can read them")
      ->type_name("all|none|NAME,...")
      ->capture_default_str();
  command
      .add_option("-e,--env", request->env,
                  "set a variable for the " + whose +
                      "; NAME alone passes ours on; goes before --export (default: none)")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  command
      .add_option("-C,--chdir", request->chdir,
                  "folder to run in, on the workers (default: this one)")
      ->type_name("FOLDER");
}

void add_raw_flag(CLI::App& command, bool* raw) {
  command.add_flag("--raw", *raw,
                   "what ranks print reaches a terminal with its escape sequences and control "
                   "characters; without it they are filtered there (never in a pipe or a file)");
}

void add_job_argument(CLI::App& command, std::string* job) {
  command.add_option("JOB", *job, "an id, a unique prefix of one, a name, or \"last\"")
      ->type_name("")
      ->required();
}

// CLI11 leaves everything from the first word that is no flag of ours; a flag there is a typo.
std::vector<std::string> program_words(
    const CLI::App& command, const std::optional<std::vector<std::string>>& after_dashes) {
  std::vector<std::string> words = command.remaining();
  if (!words.empty() && words.front().starts_with("-")) throw CLI::ExtrasError(words);
  if (!after_dashes) return words;
  // A "--" after the program is the program's own.
  if (!words.empty()) words.emplace_back("--");
  words.insert(words.end(), after_dashes->begin(), after_dashes->end());
  return words;
}

}  // namespace longhaul::cli

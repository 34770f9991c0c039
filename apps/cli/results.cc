#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "apps/cli/exit_codes.h"
#include "apps/cli/follow.h"
#include "apps/cli/json_text.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

namespace fs = std::filesystem;

struct ResultsFlags {
  std::string master;
  std::string job;
  std::string out;
  bool jsonl = false;
  ResultOptions options;
};

// What is not UTF-8 becomes U+FFFD; --out gives every byte.
std::string json_line(const TaskResult& result) {
  const nlohmann::ordered_json line = {{"schema", kJsonSchema},
                                       {"task", result.task},
                                       {"attempt", result.attempt},
                                       {"result", result.data}};
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// Whoever sees the file sees all of it.
bool write_file(const fs::path& folder, const TaskResult& result) {
  const fs::path path = folder / std::to_string(result.task);
  const fs::path draft = folder / ("." + std::to_string(result.task) + ".new");
  std::ofstream file(draft, std::ios::binary);
  file << result.data;
  file.close();
  std::error_code error;
  if (file) fs::rename(draft, path, error);
  return file && !error;
}

int results(const ResultsFlags& flags) {
  Screen screen;
  JobClient client(flags.master);
  std::error_code error;
  if (!flags.out.empty()) fs::create_directories(flags.out, error);
  if (error) {
    screen.message(str_cat(flags.out, ": ", error.message()));
    return kExitCannotCreate;
  }
  bool written = true;
  uint64_t count = 0;
  const Result<void> read = client.results(flags.job, flags.options, [&](const TaskResult& result) {
    ++count;
    if (!flags.out.empty()) {
      written = write_file(flags.out, result);
    } else {
      const std::string text = flags.jsonl ? json_line(result) : result.data;
      written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
    }
    return written;
  });
  written = std::fflush(stdout) == 0 && written;
  if (!read) return report_failure(read.failure(), screen);
  if (!written) {
    screen.message(flags.out.empty() ? "stdout was closed" : "could not write to " + flags.out);
    return kExitCannotCreate;
  }
  if (!flags.out.empty()) screen.message(str_cat(count, " results in ", flags.out));
  return 0;
}

}  // namespace

void add_results(CLI::App& app, Action* action) {
  auto flags = std::make_shared<ResultsFlags>();
  CLI::App* command =
      app.add_subcommand("results", "what the tasks of an array gave, in task order");
  add_job_argument(*command, &flags->job);
  add_master_flag(*command, &flags->master);
  CLI::Option* out =
      command->add_option("--out", flags->out, "a file for each task, called by its number")
          ->type_name("FOLDER");
  command->add_flag("--jsonl", flags->jsonl, "a line of JSON for each task")->excludes(out);
  command->add_flag("-f,--follow", flags->options.follow, "go on until the job has ended");
  command->add_option("--from", flags->options.first_task, "the first task wanted")
      ->type_name("TASK");
  command->footer(
      "Without --follow it gives what there is now without a gap. Tasks that were given up have "
      "no\n"
      "result: longhaul status names them.\n"
      "Examples:\n"
      "  longhaul results last --jsonl\n"
      "  longhaul results j3 -f --out results");
  command->callback([flags, action] { *action = [flags] { return results(*flags); }; });
}

}  // namespace longhaul::cli

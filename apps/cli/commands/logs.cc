#include <memory>

#include "apps/cli/commands/command.h"
#include "apps/cli/follow/follow.h"
#include "apps/common/flags.h"

namespace longhaul::cli {
namespace {

struct LogsFlags {
  MasterFlags master;
  std::string job;
  bool raw = false;
  FollowOptions options;
};

int logs(const LogsFlags& flags) {
  const SignalCounter signals;
  Screen screen(/*output_to_stderr=*/false, flags.raw);
  JobClient client(flags.master.address, patient(flags.master, screen));
  const Followed followed = follow(client, flags.master, flags.job, flags.options, signals, screen);
  // The job's own code is for `run` and `wait`: here its output has been shown either way.
  return followed.complete ? 0 : followed.exit_code;
}

void add_grep_flag(CLI::App& command, FollowOptions* options) {
  command
      .add_option_function<std::string>(
          "--grep",
          [options](const std::string& text) {
            options->grep = LinePattern::compile(text).value_or_throw();
          },
          "only lines that match this extended regular expression (default: all)")
      ->type_name("RE")
      ->check([](const std::string& text) {
        const Result<LinePattern> pattern = LinePattern::compile(text);
        return pattern ? std::string() : pattern.failure().message;
      });
}

}  // namespace

void add_logs(CLI::App& app, Action* action, const AfterDashes&) {
  auto flags = std::make_shared<LogsFlags>();
  flags->options.watch.output = true;
  flags->options.watch.follow = false;
  CLI::App* command = app.add_subcommand(
      "logs", "show what the ranks of a job printed, or the stderr of an array's tasks");
  add_job_argument(*command, &flags->job);
  add_patient_master_flags(*command, &flags->master);
  command
      ->add_option("--rank", flags->options.watch.only_ranks,
                   "only this rank; may be repeated (default: all)")
      ->type_name("R")
      ->allow_extra_args(false)
      ->check(number_from(0));
  command
      ->add_option("--task", flags->options.watch.only_tasks,
                   "of an array, only the stderr of this task, named as `results` does; may be "
                   "repeated (default: all)")
      ->type_name("N")
      ->allow_extra_args(false)
      ->check(number_from(uint64_t{0}))
      ->excludes("--rank");
  command
      ->add_option(
          "--attempt", flags->options.watch.attempt,
          "only this attempt: 1 is the first, each restart is the next; of a task, its own "
          "attempts (default: all)")
      ->type_name("N")
      ->check(number_between(uint64_t{1}, uint64_t{1'000'000'000}));
  add_since_flag(*command, &flags->options.watch.since_unix_ms,
                 "only lines that the master had in full since then (default: all)");
  command->add_flag("-f,--follow", flags->options.watch.follow, "go on until the job has ended");
  command
      ->add_option_function<size_t>(
          "--tail", [flags](size_t lines) { flags->options.tail = lines; },
          "of what was printed so far only the last lines (default: all of them)")
      ->type_name("N")
      ->check(number_from(size_t{0}));
  add_grep_flag(*command, &flags->options);
  add_raw_flag(*command, &flags->raw);
  command->footer(
      "Examples:\n"
      "  longhaul logs j3\n"
      "  longhaul logs last -f --rank 0 --rank 2\n"
      "  longhaul logs j3 --attempt 2 --since 10m\n"
      "  longhaul logs j7 --task 505\n"
      "  longhaul logs j3 --grep 'loss|error' --tail 20 -f");
  command->callback([flags, action] { *action = [flags] { return logs(*flags); }; });
}

}  // namespace longhaul::cli

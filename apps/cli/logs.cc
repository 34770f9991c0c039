#include <memory>

#include "apps/cli/command.h"
#include "apps/cli/follow.h"

namespace longhaul::cli {
namespace {

struct LogsFlags {
  MasterFlags master;
  std::string job;
  FollowOptions options;
};

int logs(const LogsFlags& flags) {
  const SignalCounter signals;
  Screen screen;
  JobClient client(flags.master.address, patient(flags.master, screen));
  const Followed followed = follow(client, flags.master, flags.job, flags.options, signals, screen);
  // The job's own code is for `run` and `wait`: here its output has been shown either way.
  return followed.complete ? 0 : followed.exit_code;
}

}  // namespace

void add_logs(CLI::App& app, Action* action) {
  auto flags = std::make_shared<LogsFlags>();
  flags->options.watch.output = true;
  flags->options.watch.follow = false;
  CLI::App* command = app.add_subcommand("logs", "show what the ranks of a job printed");
  add_job_argument(*command, &flags->job);
  add_patient_master_flags(*command, &flags->master);
  command->add_option("--rank", flags->options.watch.only_ranks, "only this rank (may be repeated)")
      ->type_name("R")
      ->allow_extra_args(false)
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--attempt", flags->options.watch.attempt,
                   "only this attempt: 1 is the first, each restart is the next")
      ->type_name("N")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1'000'000'000}));
  add_since_flag(*command, &flags->options.watch.since_unix_ms,
                 "only lines that the master had in full since then");
  command->add_flag("-f,--follow", flags->options.watch.follow, "go on until the job has ended");
  command->footer(
      "Examples:\n"
      "  longhaul logs j3\n"
      "  longhaul logs last -f --rank 0 --rank 2\n"
      "  longhaul logs j3 --attempt 2 --since 10m");
  command->callback([flags, action] { *action = [flags] { return logs(*flags); }; });
}

}  // namespace longhaul::cli

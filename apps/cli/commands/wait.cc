#include <memory>

#include "apps/cli/commands/command.h"
#include "apps/cli/follow/follow.h"

namespace longhaul::cli {
namespace {

struct WaitFlags {
  MasterFlags master;
  std::string job;
};

int wait(const WaitFlags& flags) {
  const SignalCounter signals;
  Screen screen;
  JobClient client(flags.master.address, patient(flags.master, screen));
  FollowOptions options;
  options.watch.from_start = false;
  return follow(client, flags.master, flags.job, options, signals, screen).exit_code;
}

}  // namespace

void add_wait(CLI::App& app, Action* action, const AfterDashes&) {
  auto flags = std::make_shared<WaitFlags>();
  CLI::App* command = app.add_subcommand("wait", "wait for a job to end; exit with its code");
  add_job_argument(*command, &flags->job);
  add_patient_master_flags(*command, &flags->master);
  command->footer(
      "Examples:\n"
      "  longhaul run -d --ranks 4 -- ./train && longhaul wait last");
  command->callback([flags, action] { *action = [flags] { return wait(*flags); }; });
}

}  // namespace longhaul::cli

#include <memory>

#include "apps/cli/command.h"
#include "apps/cli/follow.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

struct StopFlags {
  std::string master;
  std::string job;
  StopOptions options;
};

int stop(const StopFlags& flags) {
  Screen screen;
  JobClient client(flags.master);
  const Result<JobStatus> job = client.stop(flags.job, flags.options);
  if (!job) return report_failure(job.failure(), screen);
  print(str_cat("job ", job->id, " ", to_string(job->state),
                job->reason.empty() ? "" : ": " + job->reason, "\n"));
  return 0;
}

}  // namespace

void add_stop(CLI::App& app, Action* action) {
  auto flags = std::make_shared<StopFlags>();
  CLI::App* command = app.add_subcommand("stop", "stop a job: SIGTERM, then SIGKILL");
  add_job_argument(*command, &flags->job);
  add_master_flag(*command, &flags->master);
  add_seconds_flag(*command, "--grace", &flags->options.grace,
                   "from SIGTERM to SIGKILL (default: the job's own)");
  command->add_flag("--force", flags->options.force, "SIGKILL at once");
  command->footer(
      "Returns when the master has taken the request; `longhaul wait JOB` waits for the end.\n"
      "Examples:\n"
      "  longhaul stop j3\n"
      "  longhaul stop last --grace 2m\n"
      "  longhaul stop j3 --force");
  command->callback([flags, action] { *action = [flags] { return stop(*flags); }; });
}

}  // namespace longhaul::cli

#include <memory>

#include "apps/cli/commands/command.h"
#include "apps/cli/follow/follow.h"
#include "apps/cli/text/job_text.h"
#include "apps/cli/text/json_text.h"

namespace longhaul::cli {
namespace {

struct StatusFlags {
  std::string master;
  std::string job;
  bool json = false;
};

int status(const StatusFlags& flags) {
  Screen screen;
  JobClient client(flags.master);
  const Result<JobStatus> job = client.get(flags.job);
  if (!job) return report_failure(job.failure(), screen);
  print(flags.json ? job_json(*job) : render_status(*job, SystemClock().unix_ms()));
  return 0;
}

}  // namespace

void add_status(CLI::App& app, Action* action, const AfterDashes&) {
  auto flags = std::make_shared<StatusFlags>();
  CLI::App* command =
      app.add_subcommand("status", "show one job: its ranks, progress and, if it failed, why");
  add_job_argument(*command, &flags->job);
  add_master_flag(*command, &flags->master);
  add_output_flag(*command, &flags->json);
  command->footer(
      "Examples:\n"
      "  longhaul status j3\n"
      "  longhaul status last -o json");
  command->callback([flags, action] { *action = [flags] { return status(*flags); }; });
}

}  // namespace longhaul::cli

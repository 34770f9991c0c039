#include <memory>

#include "apps/cli/command.h"
#include "apps/cli/follow.h"
#include "apps/cli/job_text.h"
#include "apps/cli/json_text.h"

namespace longhaul::cli {
namespace {

struct PsFlags {
  std::string master;
  bool json = false;
  bool all = false;
};

int ps(const PsFlags& flags) {
  Screen screen;
  JobClient client(flags.master);
  const Result<std::vector<JobStatus>> jobs = client.list(flags.all);
  if (!jobs) return report_failure(jobs.failure(), screen);
  print(flags.json ? jobs_json(*jobs) : render_jobs(*jobs, SystemClock().unix_ms()));
  return 0;
}

}  // namespace

void add_ps(CLI::App& app, Action* action) {
  auto flags = std::make_shared<PsFlags>();
  CLI::App* command = app.add_subcommand("ps", "list jobs");
  add_master_flag(*command, &flags->master);
  add_output_flag(*command, &flags->json);
  command->add_flag("-a,--all", flags->all, "also those that have ended");
  command->footer(
      "Examples:\n"
      "  longhaul ps\n"
      "  longhaul ps --all -o json");
  command->callback([flags, action] { *action = [flags] { return ps(*flags); }; });
}

}  // namespace longhaul::cli

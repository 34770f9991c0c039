#include <memory>

#include "apps/cli/commands/command.h"
#include "apps/cli/follow/follow.h"
#include "apps/cli/text/job_text.h"
#include "apps/cli/text/json_text.h"

namespace longhaul::cli {
namespace {

struct ExplainFlags {
  std::string master;
  std::string job;
  bool json = false;
};

int explain(const ExplainFlags& flags) {
  Screen screen;
  JobClient client(flags.master);
  const Result<Explanation> made = client.explain(flags.job);
  if (!made) return report_failure(made.failure(), screen);
  print(flags.json ? explanation_json(*made) : render_explanation(*made));
  return 0;
}

}  // namespace

void add_explain(CLI::App& app, Action* action, const AfterDashes&) {
  auto flags = std::make_shared<ExplainFlags>();
  CLI::App* command = app.add_subcommand(
      "explain", "why a job waits, starts again, stops or is over, and what would help");
  add_job_argument(*command, &flags->job);
  add_master_flag(*command, &flags->master);
  add_output_flag(*command, &flags->json);
  command->footer(
      "Examples:\n"
      "  longhaul explain j3\n"
      "  longhaul explain last -o json");
  command->callback([flags, action] { *action = [flags] { return explain(*flags); }; });
}

}  // namespace longhaul::cli

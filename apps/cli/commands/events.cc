#include <memory>

#include "apps/cli/commands/command.h"
#include "apps/cli/follow/follow.h"
#include "apps/cli/text/job_text.h"
#include "apps/cli/text/json_text.h"

namespace longhaul::cli {
namespace {

struct EventsFlags {
  MasterFlags master;
  EventOptions options;
  bool json = false;
};

int events(const EventsFlags& flags) {
  Screen screen;
  JobClient client(flags.master.address, patient(flags.master, screen));
  const Result<void> done = client.events(flags.options, [&](const ClusterEvent& event) {
    print(flags.json ? event_json(event) : render_event(event));
    return true;
  });
  return done ? 0 : report_failure(done.failure(), screen);
}

}  // namespace

void add_events(CLI::App& app, Action* action, const AfterDashes&) {
  auto flags = std::make_shared<EventsFlags>();
  CLI::App* command = app.add_subcommand(
      "events", "what happened: jobs placed, started, failed, ended; workers come, silent, lost");
  command->add_option("JOB", flags->options.job, "only this job")->type_name("");
  command->add_option("--node", flags->options.worker, "only this worker (default: all)")
      ->type_name("NODE");
  add_since_flag(*command, &flags->options.since_unix_ms,
                 "only what happened since then (default: all that is kept)");
  command->add_flag("-f,--follow", flags->options.follow,
                    "go on with what happens; of one job, until it has ended");
  add_patient_master_flags(*command, &flags->master);
  add_output_flag(*command, &flags->json);
  command->footer(
      "Numbers have no gaps; the master keeps the last 10,000 (--keep-events). JSON is one "
      "document\n"
      "a line.\n"
      "Examples:\n"
      "  longhaul events --since 1h\n"
      "  longhaul events -f j3\n"
      "  longhaul events --node gpu-a -o json");
  command->callback([flags, action] { *action = [flags] { return events(*flags); }; });
}

}  // namespace longhaul::cli

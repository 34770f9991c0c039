#include <memory>
#include <thread>

#include "apps/cli/command.h"
#include "apps/cli/follow.h"
#include "apps/cli/job_text.h"
#include "apps/cli/json_text.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

constexpr milliseconds kPause{300};
constexpr milliseconds kLookForMaster{10'000};
// A master that says nothing for so long is asked whether it is still there.
constexpr milliseconds kSilence{15'000};

struct EventsFlags {
  std::string master;
  EventOptions options;
  bool json = false;
};

bool may_come_back(const Failure& failure) {
  return failure.kind == ErrorKind::kUnavailable || failure.kind == ErrorKind::kPeerLost ||
         failure.kind == ErrorKind::kDeadline;
}

// Waits for a master that went away.
Result<void> find_again(JobClient& client, const Failure& lost, Screen& screen) {
  screen.message(str_cat("lost the master at ", client.address(), " (", lost.message,
                         "); trying again for ", kLookForMaster.count() / 1000, " s"));
  const SystemClock clock;
  const Instant give_up = clock.now() + kLookForMaster;
  while (true) {
    std::this_thread::sleep_for(kPause);
    const Result<std::vector<NodeInfo>> there = client.nodes();
    if (there) break;
    if (!may_come_back(there.failure()) || clock.now() >= give_up) return there.failure();
  }
  screen.message(str_cat("the master at ", client.address(), " is back"));
  return {};
}

int events(const EventsFlags& flags) {
  Screen screen;
  JobClient client(flags.master);
  EventOptions options = flags.options;
  if (options.follow) options.limit = kSilence;
  bool answered = false;
  while (true) {
    Result<void> done = client.events(options, [&](const ClusterEvent& event) {
      answered = true;
      options.after = event.number;
      return print(flags.json ? event_json(event) : render_event(event));
    });
    if (done) return 0;
    if (options.follow && done.failure().kind == ErrorKind::kDeadline) {
      const Result<std::vector<NodeInfo>> there = client.nodes();
      if (there) {
        answered = true;
        continue;
      }
      done = there.failure();
    }
    if (!options.follow || !answered || !may_come_back(done.failure())) {
      return report_failure(done.failure(), screen);
    }
    const Result<void> back = find_again(client, done.failure(), screen);
    if (!back) return report_failure(back.failure(), screen);
  }
}

}  // namespace

void add_events(CLI::App& app, Action* action) {
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
  add_master_flag(*command, &flags->master);
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

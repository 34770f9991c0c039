#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <thread>

#include "apps/cli/commands/command.h"
#include "apps/cli/follow/follow.h"
#include "apps/cli/text/job_text.h"
#include "apps/cli/text/json_text.h"

namespace longhaul::cli {
namespace {

constexpr milliseconds kNap{100};
constexpr size_t kAnyWidth = size_t{1} << 20;

struct PsFlags {
  std::string master;
  bool json = false;
  bool all = false;
  bool wide = false;
  bool watch = false;
  milliseconds every{2'000};
};

std::string rendered(const PsFlags& flags, const std::vector<JobStatus>& jobs) {
  if (flags.json) return jobs_json(jobs);
  return render_jobs(jobs, SystemClock().unix_ms(), flags.wide ? kAnyWidth : stdout_width());
}

int ps(const PsFlags& flags) {
  Screen screen;
  JobClient client(flags.master);
  const Result<std::vector<JobStatus>> jobs = client.list(flags.all);
  if (!jobs) return report_failure(jobs.failure(), screen);
  print(rendered(flags, *jobs));
  return 0;
}

// Returns early when a signal comes.
void pause(milliseconds time, const SignalCounter& signals) {
  const SystemClock clock;
  const Instant end = clock.now() + time;
  while (signals.count() == 0 && clock.now() < end) {
    std::this_thread::sleep_for(std::min(kNap, time));
  }
}

// On a terminal each list takes the place of the one before. A master that goes away may come back;
// one that was never there is an error at once.
int watch(const PsFlags& flags) {
  const bool terminal = isatty(STDOUT_FILENO) == 1 && !flags.json;
  const SignalCounter signals;
  Screen screen;
  JobClient client(flags.master);
  bool seen = false;
  while (signals.count() == 0) {
    const Result<std::vector<JobStatus>> jobs = client.list(flags.all);
    if (!jobs && !seen) return report_failure(jobs.failure(), screen);
    seen = true;
    if (!jobs) {
      screen.message(jobs.failure().message);
    } else {
      print((terminal ? "\x1b[H\x1b[2J" : "") + rendered(flags, *jobs));
    }
    pause(flags.every, signals);
  }
  return 128 + signals.first();
}

}  // namespace

void add_ps(CLI::App& app, Action* action, const AfterDashes&) {
  auto flags = std::make_shared<PsFlags>();
  CLI::App* command = app.add_subcommand("ps", "list jobs");
  add_master_flag(*command, &flags->master);
  add_output_flag(*command, &flags->json);
  command->add_flag("-a,--all", flags->all, "also those that have ended");
  command->add_flag("-w,--wide", flags->wide,
                    "cut nothing: the list may be wider than the terminal (80 columns elsewhere)");
  command->add_flag("--watch", flags->watch, "show the list again and again, until Ctrl-C");
  add_seconds_flag(*command, "--every", &flags->every, "with --watch: how often (default 2s)");
  command->footer(
      "DONE is the part of the steps or tasks that is done, where that is known.\n"
      "Examples:\n"
      "  longhaul ps\n"
      "  longhaul ps --watch\n"
      "  longhaul ps --all -o json");
  command->callback(
      [flags, action] { *action = [flags] { return flags->watch ? watch(*flags) : ps(*flags); }; });
}

}  // namespace longhaul::cli

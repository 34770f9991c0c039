#include <fnmatch.h>

#include <algorithm>
#include <memory>

#include "apps/cli/commands/command.h"
#include "apps/cli/follow/follow.h"
#include "apps/cli/follow/shown.h"
#include "apps/cli/text/job_text.h"
#include "apps/common/flags.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

struct StopFlags {
  std::string master;
  std::vector<std::string> jobs;
  bool all = false;
  StopOptions options;
};

bool is_pattern(const std::string& word) {
  return word.find_first_of("*?[") != std::string::npos;
}

bool matches(const std::string& pattern, const JobStatus& job) {
  return ::fnmatch(pattern.c_str(), job.id.c_str(), 0) == 0 ||
         ::fnmatch(pattern.c_str(), job.spec.name.c_str(), 0) == 0;
}

// The jobs that were asked for, as the master takes them: words as they are, of patterns the jobs
// that have not ended and match. Errors: kInvalid (a pattern that matches none).
Result<std::vector<std::string>> chosen_jobs(const StopFlags& flags, JobClient& client) {
  std::vector<std::string> patterns = flags.all ? std::vector<std::string>{"*"} : flags.jobs;
  std::vector<std::string> chosen;
  const auto add = [&](const std::string& job) {
    if (std::find(chosen.begin(), chosen.end(), job) == chosen.end()) chosen.push_back(job);
  };
  if (std::none_of(patterns.begin(), patterns.end(), is_pattern)) return patterns;
  // The master does not know patterns. A job that ends between the list and the stop does no harm:
  // stopping it then changes nothing.
  const Result<std::vector<JobStatus>> active = client.list(/*include_ended=*/false);
  if (!active) return active.failure();
  for (const std::string& pattern : patterns) {
    if (!is_pattern(pattern)) {
      add(pattern);
      continue;
    }
    bool found = flags.all;
    for (const JobStatus& job : *active) {
      if (!matches(pattern, job)) continue;
      found = true;
      add(job.id);
    }
    if (!found) {
      return Failure{ErrorKind::kInvalid, str_cat("no job that has not ended matches '", pattern,
                                                  "'; nothing was stopped")};
    }
  }
  return chosen;
}

// "longhaul stop j3 --force", as the journal tells it.
std::string as_typed(const StopFlags& flags) {
  std::string text = "longhaul stop";
  if (flags.all) text += " --all";
  if (!flags.jobs.empty()) text += " " + quote_command(flags.jobs);
  return flags.options.force ? text + " --force" : text;
}

int stop(const StopFlags& flags) {
  Screen screen;
  JobClient client(flags.master);
  StopOptions options = flags.options;
  options.by.command = as_typed(flags);
  const Result<std::vector<std::string>> jobs = chosen_jobs(flags, client);
  if (!jobs) return report_failure(jobs.failure(), screen);
  if (jobs->empty()) screen.message("no job is there to be stopped");
  int exit_code = 0;
  for (const std::string& name : *jobs) {
    const Result<JobStatus> stopped = client.stop(name, options);
    if (!stopped) {
      const int code = report_failure(stopped.failure(), screen);
      if (exit_code == 0) exit_code = code;
      if (stopped.failure().kind != ErrorKind::kInvalid) return exit_code;  // so would the others
      continue;
    }
    const JobStatus job = shown(*stopped);
    print(str_cat("job ", job.id, " ", to_string(job.state),
                  job.reason.empty() ? "" : ": " + job.reason, "\n"));
  }
  return exit_code;
}

}  // namespace

void add_stop(CLI::App& app, Action* action, const AfterDashes&) {
  auto flags = std::make_shared<StopFlags>();
  CLI::App* command = app.add_subcommand("stop", "stop jobs: SIGTERM, then SIGKILL");
  CLI::Option* jobs =
      command
          ->add_option("JOB", flags->jobs,
                       "ids, unique prefixes of them, names, \"last\", or patterns: 'night-*'")
          ->type_name("");
  CLI::Option* all =
      command->add_flag("--all", flags->all, "every job that has not ended, whosever it is");
  all->excludes(jobs);
  add_master_flag(*command, &flags->master);
  add_seconds_flag(*command, "--grace", &flags->options.grace,
                   "from SIGTERM to SIGKILL (default: the job's own)");
  command->add_flag("--force", flags->options.force, "SIGKILL at once");
  command->footer(
      "Returns when the master has taken the request; `longhaul wait JOB` waits for the end. A\n"
      "pattern (* ? [a-c]) is matched against the ids and names of jobs that have not ended.\n"
      "status, explain and events say who stopped a job.\n"
      "Examples:\n"
      "  longhaul stop j3 j5\n"
      "  longhaul stop 'night-*' --grace 2m\n"
      "  longhaul stop --all --force");
  command->callback([flags, action] {
    if (flags->jobs.empty() && !flags->all) throw CLI::RequiredError("JOB, or --all");
    *action = [flags] { return stop(*flags); };
  });
}

}  // namespace longhaul::cli

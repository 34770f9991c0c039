#include <memory>

#include "apps/cli/commands/array_request.h"
#include "apps/cli/commands/command.h"
#include "apps/cli/commands/retry_request.h"
#include "apps/cli/follow/follow.h"
#include "apps/cli/text/json_text.h"
#include "apps/common/flags.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

struct MapFlags {
  MasterFlags master;
  ArrayRequest request;
  std::string retry_failed;  // a job
  // Sets in the spec of that job what was asked for anew.
  std::function<void(const JobSpec& asked, JobSpec* spec)> override_spec;
  bool json = false;
  bool detach = false;
};

constexpr const char* kMapFooter =
    "longhaul map [OPTIONS] [--] PROGRAM [ARGUMENTS]\n"
    "Runs PROGRAM once for each task, wherever there is a free slot. `{}` in its arguments becomes "
    "the\n"
    "task's input, which is in LONGHAUL_INPUT too. What it prints to stdout is its result, or what "
    "it\n"
    "writes to the file $LONGHAUL_RESULT; each result is kept once, whatever dies meanwhile. A "
    "task that\n"
    "fails is tried again, and given up and reported after --max-attempts.\n"
    "Ctrl-C leaves the job to run on, a second one stops it. Results, also while it runs: "
    "longhaul\n"
    "results JOB.\n"
    "Examples:\n"
    "  longhaul map --array 0-999%50 -- ./simulate --seed {}\n"
    "  longhaul map --each-line urls.txt --batch 20 -- ./fetch {}\n"
    "  longhaul map --retry-failed j3 --max-attempts 5\n"
    "  longhaul map --each-line prompts.txt --warm -- python3 answer.py\n"
    "  longhaul map --each-file images -d -- ./resize {} && longhaul results last -f --out small";

// With --retry-failed: what a flag sets in the spec of the job that is retried. Where a flag is not
// given, the job's own value stays.
using Override = void (*)(const JobSpec& asked, JobSpec* spec);
constexpr std::pair<const char*, Override> kOverrides[] = {
    {"--batch",
     [](const JobSpec& asked, JobSpec* spec) { spec->array->batch = asked.array->batch; }},
    {"--max-attempts",
     [](const JobSpec& asked, JobSpec* spec) {
       spec->array->max_attempts = asked.array->max_attempts;
     }},
    {"--max-oom-attempts",
     [](const JobSpec& asked, JobSpec* spec) {
       spec->array->max_oom_attempts = asked.array->max_oom_attempts;
     }},
    {"--max-preemptions",
     [](const JobSpec& asked, JobSpec* spec) {
       spec->array->max_preemptions = asked.array->max_preemptions;
     }},
    {"--max-result",
     [](const JobSpec& asked, JobSpec* spec) {
       spec->array->max_result_bytes = asked.array->max_result_bytes;
     }},
    {"--name", [](const JobSpec& asked, JobSpec* spec) { spec->name = asked.name; }},
    {"--chdir", [](const JobSpec& asked,
                   JobSpec* spec) { spec->working_directory = asked.working_directory; }},
    {"--gpus-per-task",
     [](const JobSpec& asked, JobSpec* spec) { spec->gpus_per_rank = asked.gpus_per_rank; }},
    {"--mem-per-task",
     [](const JobSpec& asked, JobSpec* spec) { spec->memory_per_rank = asked.memory_per_rank; }},
    {"--priority", [](const JobSpec& asked, JobSpec* spec) { spec->priority = asked.priority; }},
    {"--wait-for-nodes",
     [](const JobSpec& asked, JobSpec* spec) { spec->wait_for_nodes = asked.wait_for_nodes; }},
    {"--time-limit",
     [](const JobSpec& asked, JobSpec* spec) { spec->time_limit = asked.time_limit; }},
};

void override_spec(const CLI::App& command, bool program_given, const JobSpec& asked,
                   JobSpec* spec) {
  for (const auto& [flag, apply] : kOverrides) {
    if (command.get_option(flag)->count() > 0) apply(asked, spec);
  }
  if (program_given) spec->command = asked.command;
  // Added to the job's own variables, which stay.
  for (const auto& [name, value] : asked.env) spec->env[name] = value;
}

Result<ArrayRequested> make_retry(const MapFlags& flags, JobClient& client) {
  const Result<JobStatus> job = client.get(flags.retry_failed);
  if (!job) return job.failure();
  Result<std::vector<FailedTask>> failed = failed_tasks(client, *job);
  if (!failed) return failed.failure();
  JobRequest request = flags.request.job;
  // make_array_spec() needs a command. Unless one was given here, the job's own is kept:
  // override_spec() does not take this one.
  if (request.command.empty()) request.command = job->spec.command;
  const Result<JobSpec> asked =
      make_array_spec(flags.request, request, std::filesystem::current_path(), own_variables());
  if (!asked) return asked.failure();
  ArrayRequested made = retry_of(*job, std::move(*failed));
  flags.override_spec(*asked, &made.spec);
  return made;
}

int run(const MapFlags& flags) {
  const SignalCounter signals;
  Screen screen(/*output_to_stderr=*/flags.json);
  JobClient client(flags.master.address, patient(flags.master, screen));
  const Result<ArrayRequested> array =
      flags.retry_failed.empty()
          ? make_array(flags.request, std::filesystem::current_path(), own_variables())
          : make_retry(flags, client);
  if (!array) return report_failure(array.failure(), screen);
  // An array without tasks would be refused, though nothing is wrong.
  if (!flags.retry_failed.empty() && array->spec.array->tasks == 0) {
    screen.message(str_cat("every task of job ", flags.retry_failed, " has a result"));
    return 0;
  }
  const Result<JobId> job = array->next_input ? client.submit_array(array->spec, array->next_input)
                                              : client.submit(array->spec);
  if (!job) return report_failure(job.failure(), screen);
  if (flags.detach) {
    print(flags.json ? submitted_json(*job) : *job + "\n");
    return 0;
  }
  FollowOptions options;
  options.watch.from_start = false;
  options.progress = true;
  options.stop_on_signal = true;
  options.detach_first = true;
  options.command = "longhaul map";
  const Followed followed = follow(client, flags.master, *job, options, signals, screen);
  if (flags.json) print(job_json(followed.last_status));
  if (followed.complete) screen.text(str_cat("  results     longhaul results ", *job, "\n"));
  return followed.exit_code;
}

}  // namespace

void add_map(CLI::App& app, Action* action, const AfterDashes& after_dashes) {
  auto flags = std::make_shared<MapFlags>();
  ArrayRequest* request = &flags->request;
  CLI::App* command = app.add_subcommand("map", "run a program on each of many inputs");
  command->prefix_command();
  add_patient_master_flags(*command, &flags->master);
  command
      ->add_option("--array", request->indices,
                   "indices: 0-999, 1-9:2,20; %N: N at once at most (default: all)")
      ->type_name("SPEC");
  command
      ->add_option("--each-line", request->each_line,
                   "a task for each line of a file, -: stdin (default: none)")
      ->type_name("FILE");
  command
      ->add_option("--from-json", request->from_json,
                   "a task for each value of a JSON array, -: stdin (default: none)")
      ->type_name("FILE");
  command
      ->add_option("--each-file", request->each_file,
                   "a task for each file of a folder (default: none)")
      ->type_name("FOLDER");
  CLI::Option* retry =
      command
          ->add_option(
              "--retry-failed", flags->retry_failed,
              "the tasks of that job that have no result, once more, as a job of their own: its "
              "program and flags, but for those given here (default: none)")
          ->type_name("JOB");
  for (const char* source : {"--array", "--each-line", "--from-json", "--each-file"}) {
    retry->excludes(command->get_option(source));
  }
  command->add_option("--batch", request->array.batch, "tasks given to a slot together")
      ->type_name("N")
      ->check(number_between(1, 10'000))
      ->capture_default_str();
  command
      ->add_option("--max-attempts", request->array.max_attempts,
                   "of a task that fails by itself; then it is given up")
      ->type_name("N")
      ->check(number_between(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--max-oom-attempts", request->array.max_oom_attempts,
                   "of a task that runs out of memory; then it is given up")
      ->type_name("N")
      ->check(number_between(1, 1000))
      ->capture_default_str();
  command
      ->add_option(
          "--max-preemptions", request->array.max_preemptions,
          "attempts of a task that may end because their worker was told to stop (default: "
          "any number)")
      ->type_name("N")
      ->check(number_between(1, 65'000));
  command
      ->add_option("--max-result", request->max_result_mib,
                   "MiB that one result may have; a task that gives more has failed")
      ->type_name("MIB")
      ->check(number_between(1, 1 << 20))
      ->capture_default_str();
  command->add_flag("--warm", request->array.warm,
                    "for programs that are slow to start: one process a slot reads an input a line "
                    "from stdin and answers each with one line on stdout");
  add_name_flag(*command, &request->job);
  add_surroundings_flags(*command, &request->job, "tasks");
  add_placement_flags(*command, &request->job, "task");
  add_seconds_flag(*command, "--time-limit", &request->job.spec.time_limit,
                   "of the whole job; then it is stopped and exits 124 (default: none)");
  command->add_flag("-d,--detach", flags->detach, "print the job's id and return");
  add_output_flag(*command, &flags->json);
  command->footer(kMapFooter);
  command->callback([flags, command, action, after_dashes] {
    flags->request.job.command = program_words(*command, after_dashes);
    const bool program_given = !flags->request.job.command.empty();
    flags->override_spec = [command, program_given](const JobSpec& asked, JobSpec* spec) {
      override_spec(*command, program_given, asked, spec);
    };
    *action = [flags] { return run(*flags); };
  });
}

}  // namespace longhaul::cli

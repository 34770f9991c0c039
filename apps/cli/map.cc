#include <cstdlib>
#include <memory>

#include "apps/cli/array_request.h"
#include "apps/cli/command.h"
#include "apps/cli/follow.h"
#include "apps/cli/json_text.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

struct MapFlags {
  MasterFlags master;
  ArrayRequest request;
  bool json = false;
  bool detach = false;
};

constexpr const char* kFooter =
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
    "  longhaul map --each-file images -d -- ./resize {} && longhaul results last -f --out small";

int run(const MapFlags& flags) {
  const SignalCounter signals;
  Screen screen(/*output_to_stderr=*/flags.json);
  const Result<ArrayRequested> array =
      make_array(flags.request, std::filesystem::current_path(),
                 [](const std::string& name) { return std::getenv(name.c_str()); });
  if (!array) return report_failure(array.failure(), screen);
  JobClient client(flags.master.address, patient(flags.master, screen));
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
  const Followed followed = follow(client, flags.master, *job, options, signals, screen);
  if (flags.json) print(job_json(followed.last_status));
  if (followed.complete) screen.text(str_cat("  results     longhaul results ", *job, "\n"));
  return followed.exit_code;
}

}  // namespace

void add_map(CLI::App& app, Action* action,
             const std::optional<std::vector<std::string>>& after_dashes) {
  auto flags = std::make_shared<MapFlags>();
  ArrayRequest* request = &flags->request;
  CLI::App* command = app.add_subcommand("map", "run a program on each of many inputs");
  command->prefix_command();
  add_patient_master_flags(*command, &flags->master);
  command
      ->add_option("--array", request->indices, "indices: 0-999, 1-9:2,20; %N: N at once at most")
      ->type_name("SPEC");
  command
      ->add_option("--each-line", request->each_line, "a task for each line of a file (-: stdin)")
      ->type_name("FILE");
  command
      ->add_option("--from-json", request->from_json,
                   "a task for each value of a JSON array (-: stdin)")
      ->type_name("FILE");
  command->add_option("--each-file", request->each_file, "a task for each file of a folder")
      ->type_name("FOLDER");
  command->add_option("--batch", request->batch, "tasks given to a slot together")
      ->type_name("N")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command
      ->add_option("--max-attempts", request->max_attempts,
                   "of a task that fails by itself; then it is given up")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--max-oom-attempts", request->max_oom_attempts,
                   "of a task that runs out of memory; then it is given up")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      ->add_option(
          "--max-preemptions", request->max_preemptions,
          "attempts of a task that may end because their worker was told to stop (default: "
          "any number)")
      ->type_name("N")
      ->check(CLI::Range(1, 65'000));
  command
      ->add_option("--max-result", request->max_result_mib,
                   "MiB that one result may have; a task that gives more has failed")
      ->type_name("MIB")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--name", request->job.name, "a name to find the job by");
  command
      ->add_option("-e,--env", request->job.env,
                   "set a variable for the tasks; NAME alone passes ours on")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("-C,--chdir", request->job.chdir,
                   "folder to run in, on the workers (default: this one)")
      ->type_name("FOLDER");
  add_placement_flags(*command, &request->job, "task");
  add_seconds_flag(*command, "--time-limit", &request->job.time_limit,
                   "of the whole job; then it is stopped and exits 124");
  command->add_flag("-d,--detach", flags->detach, "print the job's id and return");
  add_output_flag(*command, &flags->json);
  command->footer(kFooter);
  command->callback([flags, command, action, after_dashes] {
    flags->request.job.command = program_words(*command, after_dashes);
    *action = [flags] { return run(*flags); };
  });
}

}  // namespace longhaul::cli

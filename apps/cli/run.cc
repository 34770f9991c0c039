#include <cstdlib>
#include <fstream>
#include <memory>

#include "apps/cli/command.h"
#include "apps/cli/follow.h"
#include "apps/cli/job_request.h"
#include "apps/cli/json_text.h"
#include "apps/cli/standalone.h"
#include "apps/common/flags.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

struct RunFlags {
  MasterFlags master;
  JobRequest request;
  std::string rdzv_endpoint;
  std::string rdzv_backend;
  std::string report;
  bool json = false;
  bool detach = false;
  bool standalone = false;
};

constexpr const char* kFooter =
    "longhaul run [OPTIONS] [--] PROGRAM [ARGUMENTS]\n"
    "The program's own flags follow it; `--` before it is optional but clear. The job runs in the\n"
    "current folder, under the same path on every worker. Ranks find torchrun's names in their\n"
    "environment: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.\n"
    "Exits with the code of the rank that failed first. Ctrl-C leaves the job to run on, a second "
    "one\n"
    "within 3 s stops it, a third one kills it; SIGTERM stops it at once.\n"
    "Examples:\n"
    "  longhaul run --ranks 4 -- ./char_gpt --steps 400\n"
    "  longhaul run --standalone --ranks 2 -- ./char_gpt\n"
    "  longhaul run -d --name nightly --env OMP_NUM_THREADS=4 --ranks 8 -- ./train\n"
    "  longhaul run --nnodes 2:4 --nproc-per-node 8 --max-restarts 3 -- ./train";

int write_report(const std::string& file, const JobStatus& job, Screen& screen) {
  std::ofstream out(file);
  out << job_json(job);
  out.flush();
  if (out) return 0;
  screen.message("could not write the report to " + file);
  return 1;
}

int detach(const RunFlags& flags, const JobId& job) {
  print(flags.json ? submitted_json(job) : job + "\n");
  return 0;
}

int watch(const RunFlags& flags, JobClient& client, const JobId& job, const SignalCounter& signals,
          Screen& screen) {
  FollowOptions options;
  options.watch.output = true;
  options.progress = true;
  options.stop_on_signal = true;
  options.detach_first = !flags.standalone;
  options.has_master = !flags.standalone;
  const Followed followed = follow(client, flags.master, job, options, signals, screen);
  if (flags.json) print(job_json(followed.last_status));
  if (!flags.report.empty() && write_report(flags.report, followed.last_status, screen) != 0 &&
      followed.exit_code == 0) {
    return 1;
  }
  return followed.exit_code;
}

int submit_and_watch(const RunFlags& flags, const JobSpec& spec, const SignalCounter& signals,
                     Screen& screen) {
  JobClient client(flags.master.address, patient(flags.master, screen));
  const Result<JobId> job = client.submit(spec);
  if (!job) return report_failure(job.failure(), screen);
  if (flags.detach) return detach(flags, *job);
  return watch(flags, client, *job, signals, screen);
}

int run(const RunFlags& flags) {
  // From here on a Ctrl-C stops the job instead of leaving it behind.
  const SignalCounter signals;
  Screen screen(/*output_to_stderr=*/flags.json);
  const Result<JobSpec> spec =
      make_job_spec(flags.request, std::filesystem::current_path(),
                    [](const std::string& name) { return std::getenv(name.c_str()); });
  if (!spec) return report_failure(spec.failure(), screen);
  if (!flags.standalone) return submit_and_watch(flags, *spec, signals, screen);

  const Result<std::unique_ptr<Standalone>> local = start_standalone(spec->ranks);
  if (!local) return report_failure(local.failure(), screen);
  RunFlags on_local = flags;
  on_local.master.address = (*local)->address();
  return submit_and_watch(on_local, *spec, signals, screen);
}

template <typename Value>
CLI::Option* add_count(CLI::App& command, const std::string& name, std::optional<Value>* value,
                       const std::string& help) {
  return command.add_option_function<Value>(
                    name, [value](Value count) { *value = count; }, help)
      ->type_name("N")
      ->check(CLI::Range(1, 65536));
}

void add_job_flags(CLI::App& command, JobRequest* request) {
  add_count(command, "-n,--ranks", &request->ranks, "ranks to run, all at once (default 1)");
  add_count(command, "--nproc-per-node,--nproc_per_node", &request->ranks_per_node,
            "ranks on each worker; with --nnodes as in torchrun");
  command
      .add_option("--nnodes", request->nodes,
                  "so many workers, or as many as there are from MIN to MAX (default 1)")
      ->type_name("N or MIN:MAX");
  command
      .add_option("--max-restarts,--max_restarts", request->max_restarts,
                  "how often the gang is formed again after a rank failed")
      ->type_name("N")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  command
      .add_option_function<int>(
          "--max-node-restarts", [request](int count) { request->max_node_restarts = count; },
          str_cat("the same after a lost worker (default ", kNodeRestarts, " with --max-restarts)"))
      ->type_name("N")
      ->check(CLI::Range(0, 1'000'000));
  command
      .add_option_function<int>(
          "--max-oom-restarts", [request](int count) { request->max_oom_restarts = count; },
          str_cat("the same after it ran out of memory (default ", kOomRestarts,
                  " with --max-restarts)"))
      ->type_name("N")
      ->check(CLI::Range(0, 1'000'000));
  command
      .add_option_function<int>(
          "--max-preemptions", [request](int count) { request->max_preemptions = count; },
          str_cat("the same after a worker was told to stop (default ", kPreemptions,
                  " with --max-restarts)"))
      ->type_name("N")
      ->check(CLI::Range(0, 1'000'000));
  add_seconds_flag(command, "--time-limit", &request->time_limit,
                   "from the first start on; then it is stopped and exits 124");
  command.add_option("--name", request->name, "a name to find the job by");
  command
      .add_option("-e,--env", request->env,
                  "set a variable for the ranks; NAME alone passes ours on")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  command
      .add_option("-C,--chdir", request->chdir,
                  "folder to run in, on the workers (default: this one)")
      ->type_name("FOLDER");
  add_placement_flags(command, request, "rank");
  command
      .add_option_function<std::string>(
          "--placement", [request](const std::string& how) { request->spread = how == "spread"; },
          "pack: on as few workers as possible (default); spread: on many, evenly")
      ->type_name("HOW")
      ->check(CLI::IsMember({"pack", "spread"}));
  command.add_flag("--fail-when-full", request->fail_when_full,
                   "exit 75 when there are too few free slots, instead of waiting");
  add_seconds_flag(command, "--join-timeout", &request->join_timeout,
                   "from the first rank's join to the last one's");
  add_seconds_flag(command, "--grace", &request->grace,
                   "from SIGTERM to SIGKILL when ranks are stopped");
}

}  // namespace

void add_run(CLI::App& app, Action* action,
             const std::optional<std::vector<std::string>>& after_dashes) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* command = app.add_subcommand("run", "run a program on all ranks and watch it");
  command->prefix_command();
  add_patient_master_flags(*command, &flags->master);
  add_job_flags(*command, &flags->request);
  command
      ->add_option("--rdzv-id,--rdzv_id", flags->request.rdzv_id,
                   "as torchrun's: the job's name, unless --name is given")
      ->type_name("ID");
  command
      ->add_option("--rdzv-conf,--rdzv_conf", flags->request.rdzv_conf,
                   "as torchrun's: join_timeout counts")
      ->type_name("KEY=VALUE,...");
  command
      ->add_option("--rdzv-endpoint,--rdzv_endpoint", flags->rdzv_endpoint,
                   "as torchrun's: the master, unless --master is given")
      ->type_name("HOST:PORT");
  command
      ->add_option("--rdzv-backend,--rdzv_backend", flags->rdzv_backend,
                   "as torchrun's, and of no consequence: ranks meet at the master")
      ->type_name("NAME");
  command->add_flag("-d,--detach", flags->detach, "print the job's id and return");
  CLI::Option* standalone = command->add_flag("--standalone", flags->standalone,
                                              "without daemons: all ranks on this machine");
  standalone->excludes(command->get_option("--detach"));
  command->add_option("--report", flags->report, "write the job's final status as JSON")
      ->type_name("FILE");
  add_output_flag(*command, &flags->json);
  command->footer(kFooter);
  command->callback([flags, command, action, after_dashes] {
    flags->request.command = program_words(*command, after_dashes);
    if (command->get_option("--master")->count() == 0 && !flags->rdzv_endpoint.empty()) {
      flags->master.address = flags->rdzv_endpoint;
    }
    *action = [flags] { return run(*flags); };
  });
}

}  // namespace longhaul::cli

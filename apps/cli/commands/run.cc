#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>

#include "apps/cli/commands/command.h"
#include "apps/cli/commands/job_request.h"
#include "apps/cli/commands/ranks_per_node.h"
#include "apps/cli/commands/standalone.h"
#include "apps/cli/follow/follow.h"
#include "apps/cli/follow/input_pump.h"
#include "apps/cli/text/json_text.h"
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
  bool raw = false;
  bool module = false;
};

constexpr const char* kRunFooter =
    "longhaul run [OPTIONS] [--] PROGRAM [ARGUMENTS]\n"
    "The program's own flags follow it; `--` before it is optional but clear. The job runs in the\n"
    "current folder, under the same path on every worker. Ranks find torchrun's names in their\n"
    "environment: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.\n"
    "Exits with the code of the rank that failed first. Ctrl-C leaves the job to run on, a second "
    "one\n"
    "within 3 s stops it, a third one kills it; SIGTERM stops it at once. Closing the terminal "
    "leaves "
    "it\n"
    "to run on (with --standalone it ends: its daemons are in this process).\n"
    "Examples:\n"
    "  longhaul run --ranks 4 -- ./char_gpt --steps 400\n"
    "  longhaul run --standalone --ranks 2 -- ./char_gpt\n"
    "  longhaul run -d --name nightly --env OMP_NUM_THREADS=4 --ranks 8 -- ./train\n"
    "  longhaul run --stdin -- python3 - <train.py\n"
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
  // Without this process these have no daemons, or no stdin, so they cannot be left to run on.
  const bool stays = flags.standalone || flags.request.spec.input;
  options.detach_first = !stays;
  options.command = "longhaul run";
  options.has_master = !flags.standalone;
  // Begins before the job is watched, since the rank may wait for its input; ends with this
  // function, after follow() has.
  std::optional<InputPump> pump;
  if (flags.request.spec.input) pump.emplace(flags.master.address, job, STDIN_FILENO);
  const Followed followed = follow(client, flags.master, job, options, signals, screen);
  if (const auto failure = pump ? pump->failure() : std::nullopt) {
    screen.message(failure->message + "; the job was stopped");
  }
  if (flags.json) print(job_json(followed.last_status));
  // The job's own exit code goes before that of a report that could not be written.
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

// With the ranks of a node as a number.
Result<JobRequest> counted(const RunFlags& flags) {
  JobRequest request = flags.request;
  if (request.ranks_per_node_of.empty()) return request;
  const Result<int> node_count = most_nodes(request);
  if (!node_count) return node_count.failure();
  Result<std::vector<NodeInfo>> nodes = std::vector<NodeInfo>{this_machine()};
  // Counted here and now: the spec that is submitted has a number, and restarts ask for the same
  // one.
  if (!flags.standalone) nodes = JobClient(flags.master.address).nodes();
  if (!nodes) return nodes.failure();
  const Result<int> count =
      ranks_per_node(request.ranks_per_node_of, std::move(*nodes), *node_count);
  if (!count) return count.failure();
  request.ranks_per_node = *count;
  return request;
}

int run(const RunFlags& flags) {
  // Before the submission: a signal that comes while the master is asked is counted, and answered
  // as soon as the job is followed.
  const SignalCounter signals;
  Screen screen(/*output_to_stderr=*/flags.json, flags.raw);
  const Result<JobRequest> request = counted(flags);
  if (!request) return report_failure(request.failure(), screen);
  const Result<JobSpec> spec =
      make_job_spec(*request, std::filesystem::current_path(), own_variables());
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
      ->check(number_between(1, 65536));
}

void add_ranks_per_node_flag(CLI::App& command, JobRequest* request) {
  const auto number = [](const std::string& text) {
    // At most five digits, so that stoi() cannot throw.
    const bool plain = !text.empty() && text.size() <= 5 &&
                       text.find_first_not_of("0123456789") == std::string::npos;
    return plain ? std::stoi(text) : 0;
  };
  command
      .add_option_function<std::string>(
          "--nproc-per-node,--nproc_per_node",
          [request, number](const std::string& text) {
            request->ranks_per_node.reset();
            request->ranks_per_node_of.clear();
            if (number(text) > 0) {
              request->ranks_per_node = number(text);
            } else {
              request->ranks_per_node_of = text;
            }
          },
          "ranks on each worker, as in torchrun: gpu: one for each of its GPUs; cpu: for each of "
          "its slots; auto: gpu where there are some, else cpu (default: as they fit)")
      ->type_name("N|auto|gpu|cpu")
      ->check([number](const std::string& text) {
        const bool word = text == "auto" || text == "gpu" || text == "cpu";
        const bool count = number(text) >= 1 && number(text) <= 65'536;
        return word || count
                   ? std::string()
                   : "'" + text + "' is neither a number from 1 to 65536 nor auto, gpu, cpu";
      });
}

void add_job_flags(CLI::App& command, JobRequest* request) {
  add_count(command, "-n,--ranks", &request->ranks, "ranks to run, all at once (default 1)");
  add_ranks_per_node_flag(command, request);
  command
      .add_option("--nnodes", request->nodes,
                  "so many workers, or as many as there are from MIN to MAX (default 1)")
      ->type_name("N or MIN:MAX");
  command
      .add_option("--max-restarts,--max_restarts", request->spec.max_restarts,
                  "how often the gang is formed again after a rank failed")
      ->type_name("N")
      ->check(number_between(0, 1'000'000))
      ->capture_default_str();
  command
      .add_option_function<int>(
          "--max-node-restarts", [request](int count) { request->max_node_restarts = count; },
          str_cat("the same after a lost worker (default ", kNodeRestarts, " with --max-restarts)"))
      ->type_name("N")
      ->check(number_between(0, 1'000'000));
  command
      .add_option_function<int>(
          "--max-oom-restarts", [request](int count) { request->max_oom_restarts = count; },
          str_cat("the same after it ran out of memory (default ", kOomRestarts,
                  " with --max-restarts)"))
      ->type_name("N")
      ->check(number_between(0, 1'000'000));
  command
      .add_option_function<int>(
          "--max-preemptions", [request](int count) { request->max_preemptions = count; },
          str_cat("the same after a worker was told to stop (default ", kPreemptions,
                  " with --max-restarts)"))
      ->type_name("N")
      ->check(number_between(0, 1'000'000));
  add_seconds_flag(command, "--time-limit", &request->spec.time_limit,
                   "from the first start on; then it is stopped and exits 124 (default: none)");
  add_name_flag(command, request);
  add_surroundings_flags(command, request, "ranks");
  add_placement_flags(command, request, "rank");
  command
      .add_option_function<std::string>(
          "--placement", [request](const std::string& how) { request->spread = how == "spread"; },
          "pack: on as few workers as possible (default); spread: on many, evenly")
      ->type_name("HOW")
      ->check(CLI::IsMember({"pack", "spread"}));
  command.add_flag("--fail-when-full", request->spec.fail_when_full,
                   "exit 75 when there are too few free slots, instead of waiting");
  add_seconds_flag(command, "--join-timeout", &request->join_timeout,
                   "from the first rank's join to the last one's (default 5m)");
  add_seconds_flag(command, "--grace", &request->spec.grace,
                   "from SIGTERM to SIGKILL when ranks are stopped (default 5s)");
}

}  // namespace

void add_run(CLI::App& app, Action* action, const AfterDashes& after_dashes) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* command = app.add_subcommand("run", "run a program on all ranks and watch it");
  // Flags behind the program's name are the program's.
  command->prefix_command();
  add_patient_master_flags(*command, &flags->master);
  add_job_flags(*command, &flags->request);
  command
      ->add_option("--rdzv-id,--rdzv_id", flags->request.rdzv_id,
                   "as torchrun's: the job's name, unless --name is given (default: none)")
      ->type_name("ID");
  command
      ->add_option("--rdzv-conf,--rdzv_conf", flags->request.rdzv_conf,
                   "as torchrun's: join_timeout counts (default: none)")
      ->type_name("KEY=VALUE,...");
  command
      ->add_option("--rdzv-endpoint,--rdzv_endpoint", flags->rdzv_endpoint,
                   "as torchrun's: the master, unless --master is given (default: none)")
      ->type_name("HOST:PORT");
  command
      ->add_option("--rdzv-backend,--rdzv_backend", flags->rdzv_backend,
                   "as torchrun's, and of no consequence: ranks meet at the master (default: none)")
      ->type_name("NAME");
  command->add_flag("-m,--module", flags->module,
                    "PROGRAM is a Python module: `python3 -u -m PROGRAM` is run");
  command->add_flag("-d,--detach", flags->detach, "print the job's id and return");
  CLI::Option* standalone = command->add_flag("--standalone", flags->standalone,
                                              "without daemons: all ranks on this machine");
  standalone->excludes(command->get_option("--detach"));
  command
      ->add_option("--report", flags->report,
                   "write the job's final status as JSON (default: nowhere)")
      ->type_name("FILE");
  add_raw_flag(*command, &flags->raw);
  add_output_flag(*command, &flags->json);
  CLI::Option* input = command->add_flag(
      "--stdin", flags->request.spec.input,
      "rank 0 reads this command's standard input (default: no rank has any); Ctrl-C then stops "
      "the job, which cannot be restarted");
  for (const char* other : {"--detach", "--max-restarts", "--max-node-restarts",
                            "--max-oom-restarts", "--max-preemptions"}) {
    input->excludes(command->get_option(other));
  }
  command->footer(kRunFooter);
  command->callback([flags, command, action, after_dashes] {
    std::vector<std::string> words = program_words(*command, after_dashes);
    if (flags->module && !words.empty()) words.insert(words.begin(), {"python3", "-u", "-m"});
    flags->request.command = std::move(words);
    if (command->get_option("--master")->count() == 0 && !flags->rdzv_endpoint.empty()) {
      flags->master.address = flags->rdzv_endpoint;
    }
    *action = [flags] { return run(*flags); };
  });
}

}  // namespace longhaul::cli

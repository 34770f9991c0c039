#include <filesystem>
#include <memory>

#include "apps/cli/commands/command.h"
#include "apps/cli/commands/exit_codes.h"
#include "apps/cli/follow/follow.h"
#include "apps/cli/follow/lost_master.h"
#include "apps/cli/follow/result_sink.h"
#include "apps/common/flags.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

namespace fs = std::filesystem;

// Tasks without a result that are named one by one.
constexpr uint64_t kNamedGaps = 20;

struct ResultsFlags {
  MasterFlags master;
  std::string job;
  std::string out;
  bool jsonl = false;
  bool raw = false;
  ResultOptions options;
};

std::unique_ptr<ResultSink> make_sink(const ResultsFlags& flags) {
  if (!flags.out.empty()) return make_folder_sink(flags.out);
  return flags.jsonl ? make_json_sink() : make_plain_sink(flags.raw);
}

// Tasks that ended without a result, or with one that cannot be read: said where they would stand,
// and counted.
class Gaps {
 public:
  Gaps(Screen& screen, bool named) : screen_(screen), named_(named) {}

  void add(const ResultPiece& piece) {
    if (!piece.damaged.empty()) {
      ++damaged_;
      screen_.message(str_cat("task ", piece.task, ": its result is damaged and left out: ",
                              std::string(piece.damaged)));
      return;
    }
    ++(piece.outcome == TaskOutcome::kGivenUp ? given_up_ : cancelled_);
    if (!named_ || count() > kNamedGaps) return;
    screen_.message(str_cat("task ", piece.task, " has no result: ", to_string(piece.outcome),
                            piece.error.empty() ? "" : ": ", piece.error));
  }

  uint64_t count() const { return given_up_ + cancelled_; }
  uint64_t damaged() const { return damaged_; }
  int exit_code() const { return damaged_ > 0 ? kExitDamaged : count() > 0 ? 1 : 0; }

  void sum_up(const std::string& job) {
    if (count() == 0) return;
    screen_.message(str_cat(count(), count() == 1 ? " task has" : " tasks have", " no result (",
                            given_up_, " given up, ", cancelled_, " cancelled): `longhaul results ",
                            job, " --jsonl` says why, `longhaul map --retry-failed ", job,
                            "` runs them again"));
  }

 private:
  Screen& screen_;
  const bool named_;
  uint64_t given_up_ = 0;
  uint64_t cancelled_ = 0;
  uint64_t damaged_ = 0;
};

void say_what_is_missing(const ResultsFlags& flags, uint64_t tasks, JobClient& client,
                         Screen& screen) {
  if (flags.options.follow) return;
  const Result<JobStatus> job = client.get(flags.job);
  if (!job || has_ended(job->state)) return;
  screen.message(str_cat("job ", job->id, " has not ended: these are the results of ", tasks,
                         " tasks so far (-f waits for the others)"));
}

int results(const ResultsFlags& flags) {
  Screen screen;
  JobClient client(flags.master.address, patient(flags.master, screen));
  std::error_code error;
  if (!flags.out.empty()) fs::create_directories(flags.out, error);
  if (error) {
    screen.message(str_cat(flags.out, ": ", error.message()));
    return kExitCannotCreate;
  }
  bool written = true;
  uint64_t tasks = 0;
  Gaps gaps(screen, !flags.jsonl);
  const std::unique_ptr<ResultSink> sink = make_sink(flags);
  const auto take = [&](const ResultPiece& piece) {
    written = sink->take(piece);
    if (piece.last) ++tasks;
    const bool gap = piece.outcome != TaskOutcome::kDone || !piece.damaged.empty();
    if (piece.last && gap) gaps.add(piece);
    return written;
  };
  const Result<void> read = client.result_pieces(flags.job, flags.options, take);
  // A sink that cannot write ends the reading, which is no failure of the master's.
  if (!read) return report_failure(read.failure(), screen);
  if (!written) {
    screen.message("could not write to " + flags.out);
    return kExitCannotCreate;
  }
  if (!flags.out.empty())
    screen.message(str_cat(tasks - gaps.count() - gaps.damaged(), " results in ", flags.out));
  say_what_is_missing(flags, tasks, client, screen);
  gaps.sum_up(flags.job);
  return gaps.exit_code();
}

}  // namespace

void add_results(CLI::App& app, Action* action, const AfterDashes&) {
  auto flags = std::make_shared<ResultsFlags>();
  flags->options.all_ended = true;
  CLI::App* command =
      app.add_subcommand("results", "what the tasks of an array gave, in task order");
  add_job_argument(*command, &flags->job);
  add_patient_master_flags(*command, &flags->master);
  CLI::Option* out = command
                         ->add_option("--out", flags->out,
                                      "a file for each task, called by its index (default: stdout)")
                         ->type_name("FOLDER");
  command
      ->add_flag("--jsonl", flags->jsonl,
                 "a line of JSON for each task: input, state, worker, duration, error, result")
      ->excludes(out);
  command->add_flag("-f,--follow", flags->options.follow, "go on until the job has ended");
  command
      ->add_option_function<uint64_t>(
          "--from", [flags](uint64_t task) { flags->options.first_task = task; },
          "the first task wanted, by its index (default: the first there is)")
      ->type_name("TASK")
      ->check(number_from(uint64_t{0}));
  add_raw_flag(*command, &flags->raw);
  command->footer(
      "A task is called by its index, or by its place from 0 on where it has an input of its own.\n"
      "Without --follow it gives what there is now without a gap. A task that was given up or\n"
      "cancelled has no result: stderr says so, and the exit code is 1 then; a result that is "
      "damaged\n"
      "on the master's disk is named and left out, and the exit code is 65. In JSON, \"encoding\" "
      "says\n"
      "how a result is written: \"utf-8\", or \"base64\" where it is no text or larger than 32 "
      "MiB.\n"
      "Examples:\n"
      "  longhaul results last --jsonl\n"
      "  longhaul results j3 -f --out results");
  command->callback([flags, action] {
    flags->options.inputs = flags->jsonl;
    *action = [flags] { return results(*flags); };
  });
}

}  // namespace longhaul::cli

// longhaul-master: knows the workers, places jobs on them, keeps their status and output. Its state
// is on disk: killed and started again it goes on where it was, and no rank notices.
#include <CLI/CLI.hpp>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>

#include "apps/common/flags.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "control/database/engine/restore.h"
#include "control/master/master.h"
#include "longhaul/base/mutex.h"
#include "rpc/credentials.h"

namespace {

using namespace longhaul;

constexpr int kExitDamaged = 65;       // EX_DATAERR of sysexits.h: the database is damaged
constexpr int kExitUnavailable = 69;   // EX_UNAVAILABLE
constexpr int kExitInternal = 70;      // EX_SOFTWARE
constexpr int kExitCannotCreate = 73;  // EX_CANTCREAT
constexpr int kExitTryLater = 75;      // EX_TEMPFAIL: a full disk
// How long the end of an --in-memory master waits for its ranks to be stopped; their grace is 5 s
// by default.
constexpr milliseconds kStopLimit{15'000};

// $XDG_STATE_HOME/longhaul/master, as the XDG base directory specification has it.
std::string default_state_folder() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && *state == '/') return str_cat(state, "/longhaul/master");
  const char* home = std::getenv("HOME");
  return str_cat(home != nullptr && *home != '\0' ? home : "/root",
                 "/.local/state/longhaul/master");
}

struct Flags {
  std::string listen = "127.0.0.1:7700";
  std::string port_file;
  std::string state = default_state_folder();
  bool in_memory = false;
  std::string backup_to;
  std::string restore_from;
  double lease_seconds = 5;
  double hang_after_seconds = 30;
  size_t keep_jobs = 200;
  size_t keep_events = 10'000;
  double forget_lost_days = 7;
  std::string log_level = "info";
};

void add_flags(CLI::App* app, Flags* flags) {
  app->add_option("--listen", flags->listen, "HOST:PORT to listen on; port 0 takes a free one")
      ->capture_default_str();
  app->add_option("--port-file", flags->port_file,
                  "file to write the HOST:PORT listened on to, once it is (default: none)");
  app->add_option("--state", flags->state,
                  "folder of the database with jobs and workers; a master started again on it goes "
                  "on where the last one was")
      ->capture_default_str();
  app->add_flag("--in-memory", flags->in_memory,
                "keep nothing on disk: when this master ends, its jobs end with it");
  app->add_option("--lease", flags->lease_seconds,
                  "seconds of silence after which a worker counts as lost")
      ->check(number_between(0.5, 3600.0))
      ->capture_default_str();
  app->add_option("--hang-after", flags->hang_after_seconds,
                  "seconds without a new step or collective after which a job is said to hang, and "
                  "which rank is behind")
      ->check(number_between(0.5, 86'400.0))
      ->capture_default_str();
  app->add_option(
         "--keep-jobs", flags->keep_jobs,
         "jobs that have ended to keep, with their output and results; older ones are dropped")
      ->check(number_between(1, 1'000'000))
      ->capture_default_str();
  app->add_option("--keep-events", flags->keep_events,
                  "what happened last: so many events are kept for `longhaul events`")
      ->check(number_between(100, 1'000'000))
      ->capture_default_str();
  app->add_option("--forget-lost", flags->forget_lost_days,
                  "days after which a lost worker is forgotten, also that it was drained; "
                  "`longhaul nodes forget` does so at once")
      ->type_name("DAYS")
      ->check(number_between(0.001, 36'500.0))
      ->capture_default_str();
  app->add_option("--log-level", flags->log_level, "what to log to stderr")
      ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}))
      ->capture_default_str();
}

MasterOptions options_from(const Flags& flags) {
  MasterOptions options;
  options.listen = flags.listen;
  options.credentials = plain_text();
  if (!flags.in_memory) options.state_folder = flags.state;
  options.core.cluster.keep_ended_jobs = flags.keep_jobs;
  options.core.keep_events = flags.keep_events;
  options.core.cluster.hang_after =
      milliseconds(static_cast<int64_t>(flags.hang_after_seconds * 1000));
  WorkerOptions& workers = options.core.cluster.workers;
  workers.lease = milliseconds(static_cast<int64_t>(flags.lease_seconds * 1000));
  // Five heartbeats in a lease. A worker is unreachable after three that did not come, and may
  // still return before it is lost.
  workers.heartbeat_interval = std::min(milliseconds(1000), workers.lease / 5);
  workers.most_margin = workers.lease;
  constexpr double kMsOfADay = 24.0 * 3600 * 1000;
  workers.forget_lost_after =
      milliseconds(static_cast<int64_t>(flags.forget_lost_days * kMsOfADay));
  return options;
}

// By rename(), so that whoever sees the file sees all of it.
bool write_atomically(const std::string& path, const std::string& text) {
  const std::string draft = path + ".new";
  std::ofstream file(draft);
  file << text << "\n";
  file.close();
  return file && std::rename(draft.c_str(), path.c_str()) == 0;
}

// Before any thread starts: threads inherit the mask, so these signals wait until main() takes
// them.
sigset_t block_stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

int exit_code_of(ErrorKind kind, int otherwise) {
  switch (kind) {
    case ErrorKind::kInvalid:
      return kExitUsage;
    case ErrorKind::kCorrupt:
      return kExitDamaged;
    case ErrorKind::kInternal:
      return kExitInternal;
    case ErrorKind::kExhausted:
      return kExitTryLater;
    default:
      return otherwise;
  }
}

int report(const Result<void>& done) {
  if (done) return 0;
  std::cerr << "longhaul-master: " << done.failure().message << "\n";
  return exit_code_of(done.failure().kind, kExitCannotCreate);
}

int restore(const Flags& flags) {
  const Result<std::string> kept = restore_state(flags.restore_from, flags.state);
  if (!kept) return report(kept.failure());
  std::cout
      << flags.state << " holds the state of " << flags.restore_from
      << ", which begins a new life when a master is started on it: jobs that ran when it was "
         "copied fail, or are formed again, and workers end what they still run of any other\n";
  if (!kept->empty()) std::cout << "the state that was there before is in " << *kept << "\n";
  return 0;
}

// Keeps why the database refuses for good, and has main() end. The database's thread calls
// happened() and holds the database's lock meanwhile, so nothing is done there but to set the
// reason and send a signal. The reason is set first: main() looks for it when the signal has come.
class Breakdown {
 public:
  void happened(const Failure& failure) {
    MutexLock lock(mutex_);
    failure_ = failure;
    ::kill(::getpid(), SIGTERM);
  }
  std::optional<Failure> failure() const {
    MutexLock lock(mutex_);
    return failure_;
  }

 private:
  mutable Mutex mutex_;
  std::optional<Failure> failure_ LONGHAUL_GUARDED_BY(mutex_);
};

int run(const Flags& flags) {
  const sigset_t signals = block_stop_signals();
  // The limit from before is for programs that a process starts; a master starts none.
  (void)raise_descriptor_limit();
  // Before the master, so that it outlives the database's thread.
  Breakdown breakdown;
  Result<std::unique_ptr<Master>> master = Master::start(options_from(flags));
  if (!master) {
    std::cerr << "longhaul-master: " << master.failure().message << "\n";
    return exit_code_of(master.failure().kind, kExitUnavailable);
  }
  (*master)->on_broken([&breakdown](const Failure& failure) { breakdown.happened(failure); });
  std::cout << "longhaul-master listening on " << (*master)->address() << std::endl;
  // Written last: whoever sees the file can connect.
  if (!flags.port_file.empty() && !write_atomically(flags.port_file, (*master)->address())) {
    std::cerr << "longhaul-master: cannot write " << flags.port_file << "\n";
    return kExitCannotCreate;
  }
  int signal = 0;
  sigwait(&signals, &signal);
  const std::optional<Failure> broken = breakdown.failure();
  if (broken) {
    std::cerr << "longhaul-master: ends, because its database refuses for good: " << broken->message
              << "\nranks go on and look for a master; see docs/operations.md, \"Backup and "
                 "restore\"\n";
  }
  log(LogLevel::kInfo, "master", "signal ", signal,
      flags.in_memory ? ": stopping all jobs" : ": ending; jobs go on and find the next master");
  if (!(*master)->shut_down(kStopLimit)) {
    log(LogLevel::kWarning, "master", "some ranks did not end within ", kStopLimit.count(), " ms");
  }
  // Whoever reads it must not dial a port that somebody else may have by now.
  if (!flags.port_file.empty()) std::remove(flags.port_file.c_str());
  return broken ? exit_code_of(broken->kind, kExitInternal) : 0;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("The master of a Longhaul cluster: workers and the command line dial it.",
               "longhaul-master");
  add_flags(&app, &flags);
  const auto add_state = [&flags](CLI::App* command) {
    command->add_option("--state", flags.state, "folder of the database")->capture_default_str();
  };
  CLI::App* backup_command = app.add_subcommand(
      "backup", "copies the database of --state to a new file, also while a master runs on it");
  add_state(backup_command);
  backup_command->add_option("FILE", flags.backup_to, "the copy, for `longhaul-master restore`")
      ->required();
  CLI::App* restore_command = app.add_subcommand(
      "restore",
      "puts a copy that `backup` made into --state, where no master may run; what is there now is "
      "kept aside, and the state begins a new life");
  add_state(restore_command);
  restore_command->add_option("FILE", flags.restore_from, "the copy")->required();
  CLI::App* new_life_command = app.add_subcommand(
      "new-life",
      "has the state begin a new life at the next start: call it after a disk or a machine with "
      "--state was rolled back to a snapshot, which no master can see");
  add_state(new_life_command);
  if (const auto exit_code = parse_flags(app, argc, argv)) return *exit_code;
  LogLevel level = LogLevel::kInfo;
  parse_log_level(flags.log_level, &level);
  set_log_level(level);
  if (backup_command->parsed()) return report(Database::backup(flags.state, flags.backup_to));
  if (restore_command->parsed()) return restore(flags);
  if (new_life_command->parsed()) return report(begin_new_life(flags.state));
  return run(flags);
}

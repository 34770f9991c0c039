// longhaul-worker: offers this host's slots to a master and runs the ranks that it sends.

#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <utility>

#include "apps/common/flags.h"
#include "base/log.h"
#include "base/thread.h"
#include "control/worker/worker.h"
#include "rpc/credentials.h"

namespace longhaul {
namespace {

constexpr int kExitUnavailable = 69;  // EX_UNAVAILABLE of sysexits.h

struct Flags {
  WorkerSettings settings;
  double master_timeout_seconds = 3600;
  std::optional<double> adopt_timeout_seconds;
  uint64_t spool_mib = 64;
  std::string log_level = "info";
};

constexpr double kLongest = 10.0 * 365 * 86'400;  // seconds; fits as milliseconds, too

void define(CLI::App& app, Flags& flags) {
  app.add_option("--master", flags.settings.master, "The master's address, HOST:PORT (no default)")
      ->envname("LONGHAUL_MASTER")
      ->required();
  app.add_option("--slots", flags.settings.slots,
                 "Ranks that may run here at once (default: GPUs if there are any, else cores)")
      ->check(number_between(1, 1 << 20));
  app.add_option_function<int>(
         "--gpus", [&flags](int count) { flags.settings.gpus = count; },
         "GPUs for jobs that ask for some (default: CUDA_VISIBLE_DEVICES, else all)")
      ->type_name("N")
      ->check(number_between(0, 1024));
  add_bytes_flag(app, "--memory", &flags.settings.memory_bytes,
                 "memory for jobs that ask for some (default: the host's, or its cgroup's limit)");
  app.add_option("--name", flags.settings.name, "This worker's name (default: the host's name)");
  app.add_option("--address", flags.settings.address,
                 "Where ranks of other hosts reach this one (default: the address towards the "
                 "master)");
  app.add_option("--state-dir", flags.settings.state_folder,
                 "Folder for the agent socket, spooled output, and what a worker needs to go on in "
                 "the place of a killed one (default: a temporary one)");
  app.add_flag("--adopt,!--no-adopt", flags.settings.adopt,
               "Take over the ranks that a killed worker has left in the state folder (default); "
               "--no-adopt: kill them");
  app.add_option("--adopt-timeout", flags.adopt_timeout_seconds,
                 "Seconds for which ranks run on when this worker is killed; 0: they are killed at "
                 "once (default: 60 with a --state-dir, 0 without or with --no-adopt)")
      ->check(number_between(0.0, kLongest));
  app.add_option(
         "--spool-limit", flags.spool_mib,
         "MiB kept on disk of each rank's stdout and stderr until the master has them; then "
         "the oldest go")
      ->check(number_between(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--master-timeout", flags.master_timeout_seconds,
                 "Seconds after which the ranks of a master that stays away are stopped")
      ->check(number_between(0.0, kLongest))
      ->capture_default_str();
  app.add_option("--log-level", flags.log_level, "debug, info, warning, error or off")
      ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}))
      ->capture_default_str();
}

// Sent by this process to itself, to end the thread that waits for signals.
int end_of_signals() {
  return SIGRTMAX;
}

sigset_t our_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGUSR2);
  ::sigaddset(&signals, end_of_signals());
  return signals;
}

// On the signal thread. Every SIGINT and SIGTERM becomes a shutdown(); the second one kills.
// SIGUSR2: an upgrade, for which the worker makes room for its successor.
void serve_signals(Worker& worker, const sigset_t& signals) {
  for (;;) {
    int signal_number = 0;
    if (::sigwait(&signals, &signal_number) != 0) continue;
    if (signal_number == end_of_signals()) return;
    if (signal_number == SIGUSR2) {
      // No destructors: an orderly end would stop the ranks that the successor is to take over.
      worker.hand_over([] { std::_Exit(0); });
      continue;
    }
    log(LogLevel::kInfo, "worker", "signal ", signal_number, ": stopping the ranks");
    worker.shutdown();
  }
}

int run(const Flags& flags) {
  // Blocked in every thread from here on; one thread waits for them.
  const sigset_t signals = our_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A write to a connection that the other side has closed is an error of the call, not the end of
  // the worker.
  (void)::signal(SIGPIPE, SIG_IGN);

  WorkerSettings settings = flags.settings;
  settings.credentials = plain_text();
  Worker worker(std::move(settings));
  // A thread, and no handler, because shutdown() takes a lock, which a signal handler must not.
  Thread signal_thread("signals", [&] { serve_signals(worker, signals); });
  const Result<void> ended = worker.run();
  // Only a signal that it waits for ends a sigwait().
  ::kill(::getpid(), end_of_signals());
  signal_thread.join();
  if (ended) return 0;
  std::cerr << "longhaul-worker: " << ended.failure().message << "\n";
  return kExitUnavailable;
}

int main(int argc, char** argv) {
  CLI::App app("Offers this host's slots to a longhaul-master and runs the ranks that it sends.",
               "longhaul-worker");
  Flags flags;
  define(app, flags);
  if (const std::optional<int> code = parse_flags(app, argc, argv)) return *code;
  LogLevel level = LogLevel::kInfo;
  parse_log_level(flags.log_level, &level);
  set_log_level(level);
  flags.settings.master_timeout =
      milliseconds(static_cast<int64_t>(flags.master_timeout_seconds * 1000));
  if (flags.adopt_timeout_seconds) {
    flags.settings.adopt_timeout =
        milliseconds(static_cast<int64_t>(*flags.adopt_timeout_seconds * 1000));
  }
  flags.settings.spool_bytes = flags.spool_mib << 20;
  return run(flags);
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) {
  return longhaul::main(argc, argv);
}

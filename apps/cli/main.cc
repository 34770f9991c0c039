#include <exception>
#include <iostream>

#include "apps/cli/commands/command.h"
#include "apps/cli/commands/exit_codes.h"
#include "apps/cli/commands/hints.h"
#include "apps/cli/follow/screen.h"
#include "apps/common/flags.h"

namespace {

constexpr const char* kFooter =
    "Exit codes:\n"
    "  the job's   `run` and `wait` pass on the code of the rank that failed first (128 + signal)\n"
    "  64          wrong usage, or no such job\n"
    "  65          some of what was asked for is damaged on the master's disk\n"
    "  69          the master cannot be reached, or was lost while watching and did not come back\n"
    "  73          standard output or --out cannot be written\n"
    "  75          try again later: no room (--fail-when-full), or the master's disk is full\n"
    "  77          denied\n"
    "  124         the job ran longer than its --time-limit\n"
    "  130, 143    interrupted (Ctrl-C, SIGTERM); what became of the job was said\n"
    "Environment:\n"
    "  LONGHAUL_MASTER   HOST:PORT of the master when --master is not given\n"
    "Examples:\n"
    "  longhaul run --ranks 4 -- ./char_gpt --steps 400\n"
    "  longhaul map --array 0-99 -- ./simulate --seed {}\n"
    "  longhaul ps\n"
    "  longhaul logs last -f";

// `longhaul run ... -- PROGRAM ...`: what follows the first "--" is the program's, word for word.
std::optional<std::vector<std::string>> cut_at_dashes(int* argc, char** argv) {
  for (int i = 1; i < *argc; ++i) {
    if (std::string_view(argv[i]) != "--") continue;
    std::vector<std::string> rest(argv + i + 1, argv + *argc);
    *argc = i;
    return rest;
  }
  return std::nullopt;
}

int run(int argc, char** argv) {
  using namespace longhaul::cli;
  CLI::App app("Runs training jobs on Longhaul's workers.", "longhaul");
  app.require_subcommand(1);
  app.footer(kFooter);
  Action action;
  const AfterDashes after_dashes = cut_at_dashes(&argc, argv);
#define LONGHAUL_ADD(name) add_##name(app, &action, after_dashes);
  LONGHAUL_COMMANDS(LONGHAUL_ADD)
#undef LONGHAUL_ADD
  if (const std::optional<int> exit_code = longhaul::parse_flags(app, argc, argv, hints())) {
    return *exit_code;
  }
  return action();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    longhaul::cli::hold_standard_streams();
    return run(argc, argv);
  } catch (const longhaul::cli::OutputError& error) {
    // `longhaul logs j1 | head` ends like this when head has seen enough. That is no error, so
    // nothing is said.
    if (!error.reader_is_gone()) std::cerr << "longhaul: " << error.what() << "\n";
    return error.exit_code();
  } catch (const std::exception& error) {
    std::cerr << "longhaul: " << error.what() << "\n";
    return longhaul::cli::kExitInternal;
  }
}

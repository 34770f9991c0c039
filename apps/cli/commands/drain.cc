#include <algorithm>
#include <memory>
#include <thread>

#include "apps/cli/commands/command.h"
#include "apps/cli/commands/exit_codes.h"
#include "apps/cli/follow/follow.h"
#include "apps/cli/follow/shown.h"
#include "apps/cli/text/names.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

constexpr milliseconds kPause{300};

struct DrainFlags {
  MasterFlags master;
  std::string node;
  bool undo = false;
  bool wait = false;
};

std::string describe(const NodeInfo& node) {
  std::string text = str_cat(node.id, " ", name_of(node));
  if (node.used_slots == 0) return text + "\n";
  text += str_cat(": ", node.used_slots, " of ", node.slots, " slots in use");
  if (!node.jobs.empty()) text += " by " + join(node.jobs, ", ");
  return text + "\n";
}

// The node as it stands.
Result<NodeInfo> look_up(JobClient& client, const WorkerId& id) {
  const Result<std::vector<NodeInfo>> nodes = client.nodes();
  if (!nodes) return nodes.failure();
  const auto node =
      std::find_if(nodes->begin(), nodes->end(), [&](const NodeInfo& one) { return one.id == id; });
  if (node != nodes->end()) return *node;
  return Failure{ErrorKind::kInvalid, str_cat("worker ", id, " is not known any more")};
}

int wait_until_empty(JobClient& client, NodeInfo node, Screen& screen) {
  while (!node.empty_for_good()) {
    std::this_thread::sleep_for(kPause);
    Result<NodeInfo> now = look_up(client, node.id);
    if (!now) return report_failure(now.failure(), screen);
    // Waiting on would be in vain: the worker may be given new work for ever.
    if (!now->drained) {
      screen.message(str_cat(node.id, " takes new work again: somebody undid this drain"));
      return kExitTryLater;
    }
    node = std::move(*now);
  }
  print(describe(shown(std::move(node))));
  return 0;
}

int drain(const DrainFlags& flags) {
  Screen screen;
  ClientOptions options;
  // A wait may last for days, and goes on over a restart of the master.
  if (flags.wait) options.call_timeout = flags.master.patience;
  JobClient client(flags.master.address, options);
  Result<NodeInfo> node = client.drain(flags.node, !flags.undo);
  if (!node) return report_failure(node.failure(), screen);
  print(describe(shown(*node)));
  if (!flags.wait || node->empty_for_good()) return 0;
  return wait_until_empty(client, std::move(*node), screen);
}

}  // namespace

void add_drain(CLI::App& app, Action* action, const AfterDashes&) {
  auto flags = std::make_shared<DrainFlags>();
  CLI::App* command =
      app.add_subcommand("drain", "place no new work on a worker; what it runs goes on");
  command->add_option("NODE", flags->node, "a worker's id, as `longhaul nodes` shows it")
      ->type_name("")
      ->required();
  add_patient_master_flags(*command, &flags->master);
  CLI::Option* undo = command->add_flag("--undo", flags->undo, "let it take new work again");
  command->add_flag("--wait", flags->wait, "return when nothing runs there any more")
      ->excludes(undo);
  command->footer(
      "A worker stays drained when it, or the master, is restarted. Jobs that would need it wait,\n"
      "and `longhaul explain` says so.\n"
      "Examples:\n"
      "  longhaul drain gpu-a --wait && ssh gpu-a reboot\n"
      "  longhaul drain --undo gpu-a");
  command->callback([flags, action] { *action = [flags] { return drain(*flags); }; });
}

}  // namespace longhaul::cli

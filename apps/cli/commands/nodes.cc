#include <memory>

#include "apps/cli/commands/command.h"
#include "apps/cli/follow/follow.h"
#include "apps/cli/text/job_text.h"
#include "apps/cli/text/json_text.h"

namespace longhaul::cli {
namespace {

struct NodesFlags {
  std::string master;
  bool json = false;
};

int nodes(const NodesFlags& flags) {
  Screen screen;
  JobClient client(flags.master);
  const Result<std::vector<NodeInfo>> nodes = client.nodes();
  if (!nodes) return report_failure(nodes.failure(), screen);
  print(flags.json ? nodes_json(*nodes) : render_nodes(*nodes, SystemClock().unix_ms()));
  return 0;
}

int forget(const std::string& master, const std::string& node) {
  Screen screen;
  JobClient client(master);
  const Result<void> done = client.forget(node);
  if (!done) return report_failure(done.failure(), screen);
  print(node + " is forgotten\n");
  return 0;
}

void add_forget(CLI::App& nodes, Action* action) {
  auto master = std::make_shared<std::string>();
  auto node = std::make_shared<std::string>();
  CLI::App* command =
      nodes.add_subcommand("forget", "list a lost worker no longer, nor know that it was drained");
  command->add_option("NODE", *node, "a worker's id, as `longhaul nodes` shows it")
      ->type_name("")
      ->required();
  add_master_flag(*command, master.get());
  command->footer(
      "Lost workers are forgotten by themselves after `longhaul-master --forget-lost`.");
  command->callback(
      [master, node, action] { *action = [master, node] { return forget(*master, *node); }; });
}

}  // namespace

void add_nodes(CLI::App& app, Action* action, const AfterDashes&) {
  auto flags = std::make_shared<NodesFlags>();
  CLI::App* command =
      app.add_subcommand("nodes", "list workers, their slots and when they were last heard");
  add_master_flag(*command, &flags->master);
  add_output_flag(*command, &flags->json);
  command->footer(
      "Examples:\n"
      "  longhaul nodes\n"
      "  longhaul nodes -o json\n"
      "  longhaul nodes forget gpu-a");
  command->callback([flags, action] {
    if (!*action) *action = [flags] { return nodes(*flags); };
  });
  add_forget(*command, action);
}

}  // namespace longhaul::cli

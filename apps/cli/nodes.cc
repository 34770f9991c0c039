#include <memory>

#include "apps/cli/command.h"
#include "apps/cli/follow.h"
#include "apps/cli/job_text.h"
#include "apps/cli/json_text.h"

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

}  // namespace

void add_nodes(CLI::App& app, Action* action) {
  auto flags = std::make_shared<NodesFlags>();
  CLI::App* command =
      app.add_subcommand("nodes", "list workers, their slots and when they were last heard");
  add_master_flag(*command, &flags->master);
  add_output_flag(*command, &flags->json);
  command->footer(
      "Examples:\n"
      "  longhaul nodes\n"
      "  longhaul nodes -o json");
  command->callback([flags, action] { *action = [flags] { return nodes(*flags); }; });
}

}  // namespace longhaul::cli

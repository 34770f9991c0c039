// `longhaul completion SHELL` prints the script that a shell loads; what the script asks at each
// key is the hidden command `__complete`.
#include <map>
#include <memory>

#include "apps/cli/commands/command.h"
#include "apps/cli/commands/complete.h"
#include "apps/cli/follow/screen.h"
#include "control/client/job_client.h"

namespace longhaul::cli {
namespace {

// A user who presses the tab key does not wait longer for a master.
constexpr milliseconds kPatience{500};

// No `compgen -W`: it would expand what a job is called.
constexpr const char* kBash = R"(# bash completion for longhaul: source <(longhaul completion bash)
_longhaul() {
  local line=${COMP_LINE:0:COMP_POINT}
  local -a words
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  mapfile -t COMPREPLY < <("${words[0]/#\~/$HOME}" __complete -- "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _longhaul longhaul
)";

constexpr const char* kZsh = R"(#compdef longhaul
# zsh completion for longhaul: source <(longhaul completion zsh), after compinit; or as the file
# _longhaul in a folder of $fpath
_longhaul() {
  local -a candidates
  candidates=("${(@f)$("${(Q)words[1]}" __complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
  candidates=("${(@)candidates:#}")
  if (( $#candidates )); then compadd -a candidates; else _files; fi
}
if [[ ${funcstack[1]} == _longhaul ]]; then _longhaul "$@"; else compdef _longhaul longhaul; fi
)";

constexpr const char* kFish = R"(# fish completion for longhaul: longhaul completion fish | source
function __longhaul_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  $words[1] __complete -- $words[2..-1] "$current" 2>/dev/null
end
complete -c longhaul -a '(__longhaul_complete)'
)";

const std::map<std::string, std::string> kScripts = {
    {"bash", kBash}, {"zsh", kZsh}, {"fish", kFish}};

// A shell puts a candidate on the command line as it is.
bool is_plain(const std::string& name) {
  return !name.empty() && name.front() != '-' &&
         name.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
             "0123456789_-.,+@%") == std::string::npos;
}

std::vector<std::string> job_names(const std::string& master) {
  const Result<std::vector<JobStatus>> jobs = JobClient(master, {kPatience}).list(true);
  std::vector<std::string> names;
  if (!jobs) return names;
  for (const JobStatus& job : *jobs) {
    names.push_back(job.id);
    if (is_plain(job.spec.name)) names.push_back(job.spec.name);
  }
  if (!names.empty()) names.emplace_back("last");
  return names;
}

std::vector<std::string> node_names(const std::string& master) {
  const Result<std::vector<NodeInfo>> nodes = JobClient(master, {kPatience}).nodes();
  std::vector<std::string> names;
  if (!nodes) return names;
  for (const NodeInfo& node : *nodes) {
    if (is_plain(node.id)) names.push_back(node.id);
  }
  return names;
}

}  // namespace

void add_completion(CLI::App& app, Action* action, const AfterDashes&) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "completion", "print a script that lets a shell complete commands, flags, jobs and nodes");
  command->add_option("SHELL", *shell, "the shell")
      ->type_name("")
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->required();
  command->footer(
      "Examples:\n"
      "  source <(longhaul completion bash)     # in ~/.bashrc\n"
      "  source <(longhaul completion zsh)      # in ~/.zshrc, after compinit\n"
      "  longhaul completion fish | source      # in ~/.config/fish/config.fish");
  command->callback([shell, action] {
    *action = [shell] {
      print(kScripts.at(*shell));
      return 0;
    };
  });
}

void add_complete(CLI::App& app, Action* action, const AfterDashes& after_dashes) {
  auto master = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("__complete", "what the completion scripts ask");
  command->group("");
  add_master_flag(*command, master.get());
  command->callback([&app, master, action, after_dashes] {
    *action = [&app, master, after_dashes] {
      const auto named = [&](const std::string& said) { return said.empty() ? *master : said; };
      const NamesOf names = {[&](const std::string& said) { return job_names(named(said)); },
                             [&](const std::string& said) { return node_names(named(said)); }};
      std::string text;
      for (const std::string& candidate :
           complete(app, after_dashes.value_or(std::vector<std::string>()), names)) {
        text += candidate + "\n";
      }
      print(text);
      return 0;
    };
  });
}

}  // namespace longhaul::cli

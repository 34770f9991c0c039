#include "apps/cli/commands/complete.h"

#include <algorithm>

#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

std::vector<std::string> commands_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!command->get_group().empty()) names.push_back(command->get_name());
  }
  return names;
}

std::vector<std::string> flags_of(const CLI::App& command) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_snames()) flags.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) {
      // torchrun's spelling is taken, and not proposed.
      if (name.find('_') == std::string::npos) flags.push_back("--" + name);
    }
  }
  return flags;
}

std::vector<const CLI::Option*> positionals_of(const CLI::App& command) {
  return command.get_options([](const CLI::Option* option) { return option->get_positional(); });
}

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  const auto found =
      app.get_subcommands([&](const CLI::App* command) { return command->get_name() == name; });
  return found.empty() ? nullptr : found.front();
}

// What is between the braces of "FORMAT:{text,json}": how CLI11 shows the members of a set.
std::vector<std::string> members_of(const std::string& type) {
  const size_t open = type.find('{');
  const size_t close = type.find('}', open);
  if (open == std::string::npos || close == std::string::npos) return {};
  return split(type.substr(open + 1, close - open - 1), ',');
}

std::vector<std::string> values_of(const CLI::Option& option, const std::string& master,
                                   const NamesOf& names) {
  const std::string type = option.get_type_name();
  const std::string name = option.get_positional() ? option.get_name(true) : type;
  if (name == "JOB") return names.jobs(master);
  if (name == "NODE") return names.nodes(master);
  return members_of(type);
}

}  // namespace

std::vector<std::string> complete(const CLI::App& app, const std::vector<std::string>& words,
                                  const NamesOf& names) {
  const std::string current = words.empty() ? "" : words.back();
  const CLI::App* command = nullptr;
  const CLI::Option* asks = nullptr;  // the flag before wants a value
  size_t taken = 0;                   // positional words so far
  std::string master;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") return {};
    if (asks != nullptr) {
      if (asks->check_lname("master")) master = word;
      asks = nullptr;
    } else if (word.starts_with("-")) {
      const CLI::Option* option = command == nullptr ? nullptr : command->get_option_no_throw(word);
      if (option != nullptr && option->get_items_expected_max() > 0) asks = option;
    } else if (command == nullptr) {
      command = find_command(app, word);
      if (command == nullptr) return {};
    } else {
      if (command->get_prefix_command()) return {};
      ++taken;
    }
  }

  std::vector<std::string> candidates;
  if (asks != nullptr) {
    candidates = values_of(*asks, master, names);
  } else if (current.starts_with("-")) {
    candidates = flags_of(command == nullptr ? app : *command);
  } else if (command == nullptr) {
    candidates = commands_of(app);
  } else if (const auto positionals = positionals_of(*command); !positionals.empty()) {
    const bool many = positionals.back()->get_items_expected_max() > 1;
    const size_t at = many ? std::min(taken, positionals.size() - 1) : taken;
    if (at < positionals.size()) candidates = values_of(*positionals[at], master, names);
  }
  std::erase_if(candidates,
                [&](const std::string& candidate) { return !candidate.starts_with(current); });
  return candidates;
}

}  // namespace longhaul::cli

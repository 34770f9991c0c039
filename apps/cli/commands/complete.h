// Completion of a command line, whatever the shell: the words so far against the same table of
// commands and flags as --help. The shells' scripts only ask (`longhaul __complete -- WORD...`).
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <string>
#include <vector>

namespace longhaul::cli {

// Names that only a master knows; `master` is its address when the words say one, else empty.
struct NamesOf {
  std::function<std::vector<std::string>(const std::string& master)> jobs;
  std::function<std::vector<std::string>(const std::string& master)> nodes;
};

// `words`: those after "longhaul", the last one unfinished, maybe empty. Nothing where the
// program's own words, or a file, are typed: the shell knows better.
std::vector<std::string> complete(const CLI::App& app, const std::vector<std::string>& words,
                                  const NamesOf& names);

}  // namespace longhaul::cli

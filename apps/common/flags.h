// How every executable of ours reads its flags: CLI11 does the parsing; what it does not know gets
// a "did you mean", and wrong usage exits with 64 (EX_USAGE of sysexits.h).
#pragma once

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "longhaul/base/strings.h"
#include "longhaul/base/version.h"

namespace longhaul {

constexpr int kExitUsage = 64;
constexpr int kExitCannotWrite = 73;

// What users of other programs try, and what to say then: "did you mean 'ps --watch'?" behind an
// unknown word. Flags with dashes, however they were typed.
using Hints = std::map<std::string, std::string>;

namespace detail {

// "--node_rank" is "--node-rank".
inline std::string with_dashes(std::string word) {
  if (word.starts_with("--")) std::replace(word.begin(), word.end(), '_', '-');
  return word;
}

// What could have been meant by `word`: the flags of `app`, or its subcommands.
inline std::vector<std::string> flag_candidates(const CLI::App& app, std::string_view word) {
  std::vector<std::string> names;
  if (word.starts_with("-")) {
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  } else {
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(command->get_name());
    }
  }
  return names;
}

inline const CLI::App& innermost_command(const CLI::App& app) {
  const CLI::App* innermost = &app;
  while (!innermost->get_subcommands().empty()) innermost = innermost->get_subcommands().front();
  return *innermost;
}

// "longhaul run"
inline std::string full_name(const CLI::App& app) {
  std::string name = app.get_name();
  for (const CLI::App* command = &app; !command->get_subcommands().empty();) {
    command = command->get_subcommands().front();
    name += " " + command->get_name();
  }
  return name;
}

// "unknown flag '--rank': did you mean '--ranks'?", or "" when nothing was left over.
inline std::string unknown_argument(const CLI::App& app, const Hints& hints) {
  const std::vector<std::string> left_over = app.remaining(true);
  if (left_over.empty()) return "";
  const std::string word = left_over.front().substr(0, left_over.front().find('='));
  const CLI::App& command = innermost_command(app);
  const std::string near = closest_match(word, flag_candidates(command, word));
  const auto hint = hints.find(with_dashes(word));
  const bool is_command =
      !word.starts_with("-") && &command == &app && !flag_candidates(app, word).empty();
  return str_cat("unknown ",
                 word.starts_with("-") ? "flag"
                 : is_command          ? "command"
                                       : "argument",
                 " '", word, "'",
                 hint != hints.end() ? ": " + hint->second
                 : near.empty()      ? ""
                                     : ": did you mean '" + near + "'?");
}

}  // namespace detail

// For a flag's check(). CLI11's own take "nan" for a number of any range, and write limits that
// nobody asked for: "not in range 0.000000 to 179769313486231570814527...".
template <typename Number>
CLI::Validator number_between(Number least, Number most) {
  const bool open = most == std::numeric_limits<Number>::max();
  const std::string limits =
      open ? str_cat("from ", least, " on") : str_cat("from ", least, " to ", most);
  const auto check = [least, most, limits](const std::string& text) {
    Number value{};
    // CLI11 reads "-1" as the largest whole number; and this is false for what is no number at all.
    const bool below = std::is_unsigned_v<Number> && text.starts_with("-");
    const bool fits =
        !below && CLI::detail::lexical_cast(text, value) && value >= least && value <= most;
    const char* kind = std::is_integral_v<Number> ? "whole number" : "number";
    return fits ? std::string() : str_cat("'", text, "' is not a ", kind, " ", limits);
  };
  return {[check](std::string& text) { return check(text); }, limits};
}
template <typename Number>
CLI::Validator number_from(Number least) {
  return number_between(least, std::numeric_limits<Number>::max());
}

// "500M", "16GB", "4GiB": units of a thousand, those with an i of 1024. Never a bare number, which
// means kilobytes, megabytes or bytes elsewhere.
inline CLI::Option* add_bytes_flag(CLI::App& app, const std::string& name, uint64_t* value,
                                   const std::string& help) {
  std::map<std::string, uint64_t> units;
  uint64_t decimal = 1;
  uint64_t binary = 1;
  for (const char* prefix : {"k", "m", "g", "t"}) {
    decimal *= 1000;
    binary *= 1024;
    for (const char* ending : {"", "b"}) {
      units[str_cat(prefix, ending)] = decimal;
      units[str_cat(prefix, "i", ending)] = binary;
    }
  }
  using Unit = CLI::AsNumberWithUnit;
  const auto options = static_cast<Unit::Options>(Unit::CASE_INSENSITIVE | Unit::UNIT_REQUIRED);
  return app.add_option(name, *value, help)
      ->type_name("SIZE")
      ->transform(Unit(units, options, "SIZE"));
}

// Parses the command line into the variables bound to `app`, which gets --version here. Returns the
// code to exit with when there is nothing more to do (help, version, wrong usage), after printing
// why.
inline std::optional<int> parse_flags(CLI::App& app, int argc, const char* const* argv,
                                      const Hints& hints = {}) {
  app.set_version_flag("--version", str_cat(app.get_name(), " ", version()));
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      app.exit(error);
      if (std::cout.flush()) return 0;
      std::cerr << app.get_name() << ": cannot write to standard output\n";
      return kExitCannotWrite;
    }
    const std::string unknown = detail::unknown_argument(app, hints);
    std::cerr << app.get_name() << ": " << (unknown.empty() ? error.what() : unknown) << "\n"
              << "Try '" << detail::full_name(app) << " --help'.\n";
    return kExitUsage;
  }
}

}  // namespace longhaul

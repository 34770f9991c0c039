// linkem: bad links on one machine.
#include <CLI/CLI.hpp>

#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>

#include "apps/common/flags.h"
#include "tools/linkem/run.h"
#include "tools/linkem/settings.h"

namespace {

using namespace longhaul;
using namespace longhaul::linkem;

constexpr const char* kFooter =
    "Each command finds LINKEM_HOST (0..), LINKEM_HOSTS, LINKEM_ADDRESS, LINKEM_PEERS (all "
    "addresses,\n"
    "in order, with commas) and LINKEM_INTERFACE in its environment; {host}, {hosts}, {address} "
    "and\n"
    "{address:N} in its words are replaced.\n"
    "Every link flag also as --up-... and --down-..., of that direction of the access link alone.\n"
    "Exit codes:\n"
    "  the command's   of the one that failed first (128 + signal; 127: not found)\n"
    "  64              wrong usage\n"
    "  77              no root, no /dev/net/tun\n"
    "  130, 143        interrupted (Ctrl-C, SIGTERM): all commands were ended\n"
    "Examples:\n"
    "  linkem run --hosts 4 --rate 25mbit --rtt 100ms -- ./train --rank {host}\n"
    "  linkem run --hosts 2 --rate 100mbit --host 1:up-rate=5mbit,loss=1% -- ./sync {address:0}\n"
    "  linkem run --hosts 3 --rtt 300ms --outage 10s+2s --on 0 -- bash";

struct Flags {
  size_t hosts = 2;
  std::map<std::string, std::string> links;  // by setting key
  std::vector<std::string> host_settings;
  std::vector<std::string> traces;
  std::vector<std::string> sysctls;
  std::string summary = "text";
  std::string grace = "5s";
  std::optional<size_t> only_on;
  bool no_prefix = false;
  bool no_real_time = false;
  RunOptions options;
};

const std::map<std::string, std::string>& described_keys() {
  static const std::map<std::string, std::string> keys{
      {"rate", "rate of each access link, up and down: 25mbit, 1.5gbit; none: no limit"},
      {"rtt", "round-trip time between two hosts: 100ms"},
      {"jitter", "one-way delays vary by up to this, in order: 5ms"},
      {"loss", "packets lost at random on the way from host to host: 0.5%"},
      {"reorder", "packets held back so that others overtake them: 1%"},
      {"reorder-by", "how long those are held back (2ms)"},
      {"queue", "room before each link: 256KiB or 100packets (what the rate sends in one RTT)"},
      {"outage", "every link is dead from START for LENGTH seconds: 10s+2s,30s+1s"},
      {"mahimahi-up", "FILE: packet times of the up-links in Mahimahi's format, instead of a rate"},
      {"mahimahi-down", "FILE: as above, for the down-links"},
  };
  return keys;
}

void add_link_flags(CLI::App* run, Flags* flags) {
  for (const std::string& key : setting_keys()) {
    const auto described = described_keys().find(key);
    const bool is_shown = described != described_keys().end();
    run->add_option("--" + key, flags->links[key], is_shown ? described->second : "")
        ->group(is_shown ? "Links" : "");
  }
  run->add_option("--host", flags->host_settings,
                  "settings of one host: 2:rate=5mbit,up-delay=20ms (may be repeated)")
      ->allow_extra_args(false)
      ->group("Links");
  run->add_option("--trace", flags->traces,
                  "FILE of lines \"SECONDS [host=N] KEY=VALUE...\": how links change")
      ->allow_extra_args(false)
      ->group("Links");
}

void add_run_flags(CLI::App* run, Flags* flags) {
  run->add_option("--hosts", flags->hosts, "how many hosts")
      ->check(number_between<size_t>(1, kMostHosts))
      ->capture_default_str();
  run->add_option("--on", flags->only_on, "run the command on this host only, with our streams");
  run->add_option("--seed", flags->options.seed, "of loss, jitter and reorder")
      ->capture_default_str();
  run->add_flag("--no-prefix", flags->no_prefix, "pass output on without \"[host] \"");
  run->add_flag("--fail-fast", flags->options.fail_fast,
                "the first command that fails ends the others");
  run->add_option("--grace", flags->grace, "from the request to end to SIGKILL")
      ->capture_default_str();
  run->add_option("-o,--output", flags->summary, "form of the summary on standard error")
      ->check(CLI::IsMember({"text", "json", "none"}))
      ->capture_default_str();
  run->add_option("--report", flags->options.report_file, "FILE to write the summary to as JSON");
  run->add_option("--mtu", flags->options.network.mtu, "largest IP packet, bytes")
      ->check(number_between(576U, 65535U))
      ->capture_default_str();
  run->add_option("--sysctl", flags->sysctls,
                  "NAME=VALUE on every host: net.ipv4.tcp_congestion_control=cubic")
      ->allow_extra_args(false);
  run->add_flag("--no-real-time", flags->no_real_time,
                "no real-time scheduling for the router: links get late when hosts are busy");
}

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text << file.rdbuf();
  if (!file) return Failure{ErrorKind::kInvalid, "cannot read " + path};
  return text.str();
}

Result<std::vector<Setting>> gather_settings(const Flags& flags) {
  std::vector<Setting> settings;
  for (const auto& [key, value] : flags.links) {
    if (!value.empty()) settings.push_back({"--" + key, {}, {}, key, value});
  }
  // Of both directions first, so that those of one direction can differ.
  std::stable_partition(settings.begin(), settings.end(), [](const Setting& setting) {
    return !setting.key.starts_with("up-") && !setting.key.starts_with("down-");
  });
  const auto append = [&](Result<std::vector<Setting>> more) -> Result<void> {
    if (!more) return more.failure();
    settings.insert(settings.end(), more->begin(), more->end());
    return {};
  };
  for (const std::string& text : flags.host_settings) {
    if (Result<void> done = append(parse_host_settings(text)); !done) {
      return Failure{ErrorKind::kInvalid, "--host: " + done.failure().message};
    }
  }
  for (const std::string& path : flags.traces) {
    const Result<std::string> text = read_file(path);
    if (!text) return Failure{ErrorKind::kInvalid, "--trace: " + text.failure().message};
    if (Result<void> done = append(parse_trace(path, *text)); !done) return done.failure();
  }
  return settings;
}

Result<RunOptions> options_from(const Flags& flags, std::vector<std::string> command) {
  RunOptions options = flags.options;
  options.command = std::move(command);
  options.prefix = !flags.no_prefix;
  options.real_time = !flags.no_real_time;
  options.only_on = flags.only_on;
  options.summary = flags.summary == "json"   ? RunOptions::Summary::kJson
                    : flags.summary == "none" ? RunOptions::Summary::kNone
                                              : RunOptions::Summary::kText;
  if (flags.only_on && *flags.only_on >= flags.hosts) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("--on: no host ", *flags.only_on, ": they are 0 to ", flags.hosts - 1)};
  }
  const Result<nanoseconds> grace = parse_duration(flags.grace);
  if (!grace) return Failure{ErrorKind::kInvalid, "--grace: " + grace.failure().message};
  options.grace = std::chrono::duration_cast<std::chrono::milliseconds>(*grace);
  for (const std::string& text : flags.sysctls) {
    const Result<Setting> setting = parse_setting(text);
    if (!setting) return Failure{ErrorKind::kInvalid, "--sysctl: " + setting.failure().message};
    options.network.sysctls.emplace_back(setting->key, setting->value);
  }
  Result<std::vector<Setting>> settings = gather_settings(flags);
  if (!settings) return settings.failure();
  Result<std::vector<HostPlan>> hosts = plan_hosts(flags.hosts, *std::move(settings), read_file);
  if (!hosts) return hosts.failure();
  options.hosts = *std::move(hosts);
  return options;
}

// What follows the first "--" is the command's, word for word.
std::vector<std::string> cut_at_dashes(int* argc, char** argv) {
  for (int i = 1; i < *argc; ++i) {
    if (std::string_view(argv[i]) != "--") continue;
    std::vector<std::string> rest(argv + i + 1, argv + *argc);
    *argc = i;
    return rest;
  }
  return {};
}

int run_main(int argc, char** argv) {
  Flags flags;
  CLI::App app(
      "Emulates hosts with slow, far and unreliable links on this machine (as root, Linux).",
      "linkem");
  app.require_subcommand(1);
  CLI::App* run_command = app.add_subcommand(
      "run", "Runs a command once per emulated host: linkem run [OPTIONS] -- COMMAND...");
  for (CLI::App* each : {&app, run_command}) each->footer(kFooter);
  add_link_flags(run_command, &flags);
  add_run_flags(run_command, &flags);
  std::vector<std::string> command = cut_at_dashes(&argc, argv);
  if (const std::optional<int> exit_code = parse_flags(app, argc, argv)) return *exit_code;
  if (command.empty()) {
    std::cerr << "linkem: no command: put it behind --, as in linkem run --hosts 2 -- ./program\n";
    return kExitUsage;
  }
  const Result<RunOptions> options = options_from(flags, std::move(command));
  if (!options) {
    std::cerr << "linkem: " << options.failure().message << "\n";
    return kExitUsage;
  }
  return run(*options);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run_main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "linkem: " << error.what() << "\n";
    return kExitInternal;
  }
}

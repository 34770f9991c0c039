// `linkem run`: hosts, links and commands from begin to end.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/linkem/host_network.h"
#include "tools/linkem/network.h"

namespace longhaul::linkem {

constexpr int kExitInternal = 70;  // EX_SOFTWARE of sysexits.h
constexpr int kExitMissing = 77;   // EX_NOPERM: no root, no TUN; ctest's code for "skipped" too

struct RunOptions {
  std::vector<HostPlan> hosts;
  uint64_t seed = 1;
  HostNetworkOptions network;
  std::vector<std::string> command;
  std::optional<size_t> only_on;  // the command runs on this host alone
  bool prefix = true;
  bool fail_fast = false;  // the first command that fails ends the others
  bool real_time = true;
  std::chrono::milliseconds grace{5000};  // from a signal to SIGKILL
  enum class Summary { kText, kJson, kNone };
  Summary summary = Summary::kText;  // on standard error
  std::string report_file;           // "": none
};

// The words of the command for one host: {host}, {hosts}, {address} and {address:N} replaced.
std::vector<std::string> words_for_host(const std::vector<std::string>& command, size_t host,
                                        size_t hosts);

// Runs it to the end and returns what to exit with: 0, the code of the command that failed first
// (128 + signal), 128 + the signal that interrupted us, or kExitMissing, kExitUsage, kExitInternal
// after a line on standard error.
int run(const RunOptions& options);

}  // namespace longhaul::linkem

// "rate=25mbit", "up-loss=1%", "outage=10s+2s": what a user says about links, made into the plan of
// every link. Where a key without "up-" or "down-" speaks of a path (rtt, jitter, loss, reorder),
// each of the two links that a path crosses gets its half, so that two hosts with the same setting
// see just that between them, and RTT(a, b) = (rtt of a + rtt of b) / 2.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/linkem/network.h"

namespace longhaul::linkem {

struct Setting {
  std::string origin;          // for error messages: "--rate", "links.trace line 3"
  nanoseconds at{0};           // when it begins to hold
  std::optional<size_t> host;  // nothing: all of them
  std::string key;
  std::string value;
};

// Every key, for help texts and "did you mean".
const std::vector<std::string>& setting_keys();

// "rate=5mbit": the key and the value; kInvalid without "=".
Result<Setting> parse_setting(std::string_view text);

// "2:rate=5mbit,loss=1%": settings of one host. In a list of outages the "," is part of the value.
Result<std::vector<Setting>> parse_host_settings(std::string_view text);

// Lines "SECONDS KEY=VALUE...", with host=N before the keys of one host; "#" begins a comment.
Result<std::vector<Setting>> parse_trace(const std::string& name, std::string_view text);

using ReadFile = std::function<Result<std::string>(const std::string& path)>;

// The plan of `hosts` hosts. Later settings replace earlier ones of the same time; those of one
// host replace those of all. `read_file` is for the values of mahimahi-up and mahimahi-down.
Result<std::vector<HostPlan>> plan_hosts(size_t hosts, std::vector<Setting> settings,
                                         const ReadFile& read_file);

}  // namespace longhaul::linkem

// What a worker finds out about the host it runs on.
#pragma once

#include <string>

#include "longhaul/base/result.h"

namespace longhaul {

std::string host_name();

// Another one whenever the host has started anew, and with it every pid; "" if that cannot be told.
std::string boot_id();

// Cores that this process may run on, at least 1.
int usable_cores();

// NVIDIA devices in /dev; 0 without a driver.
int gpu_count();

// The network interface that has this address, a numeric one or a name's: "eth0". "" when none has
// it (NAT), or several.
std::string interface_of(const std::string& address);

// A TCP port that was free on `address` just now (on any address when `address` is not this host's
// own: behind NAT). Errors: kUnavailable.
Result<int> free_port(const std::string& address);

// Where longhaul-shim lies: beside this executable, or in ../libexec. Errors: kInvalid, naming
// both.
Result<std::string> find_shim();

}  // namespace longhaul

// The emulated hosts as the kernel sees them: network namespaces without a name, each with loopback
// and one TUN device whose other end is ours. Nothing is left behind by construction: a namespace
// lives as long as a process in it or our descriptor, a device as long as our descriptor.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "longhaul/base/result.h"

namespace longhaul::linkem {

// The device's name on every host.
constexpr const char* kInterface = "linkem0";
constexpr size_t kMostHosts = 250;

// 10.98.0.(host + 1), in one /24.
std::string host_address(size_t host);
// The host that an IPv4 packet's destination (big-endian bytes, as on the wire) names; kMostHosts
// or more when it is none of ours.
size_t host_of_address(const uint8_t* address);

struct HostNetwork {
  UniqueFd net_namespace;  // for setns()
  UniqueFd tun;            // non-blocking; one read or write is one IP packet
};

struct HostNetworkOptions {
  uint32_t mtu = 1500;
  // "net.ipv4.tcp_congestion_control", "cubic": set in every host's namespace.
  std::vector<std::pair<std::string, std::string>> sysctls;
};

// Makes `count` hosts. The calling thread visits each new namespace and returns to its own.
// kUnavailable: what is missing (root, /dev/net/tun); kInvalid: a sysctl that is not there.
Result<std::vector<HostNetwork>> make_host_networks(size_t count,
                                                    const HostNetworkOptions& options);

// Packets that the kernel dropped at a host's device because the router did not fetch them in time.
// Visits the namespace as above.
uint64_t dropped_at_device(const HostNetwork& host);

}  // namespace longhaul::linkem

// "HOST:PORT" taken apart: 10.0.0.1:7700, gpu-a:7700, [::1]:7700.
#pragma once

#include <cstdint>
#include <string>

#include "longhaul/base/result.h"

namespace longhaul {

struct HostAndPort {
  std::string host;  // without brackets
  uint16_t port = 0;
};

// "10.0.0.1:80", "[::1]:80".
std::string to_text(const HostAndPort& address);

// Errors: kInvalid.
Result<HostAndPort> parse_host_and_port(const std::string& text);

}  // namespace longhaul

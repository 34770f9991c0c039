#include "wire/host_and_port.h"

#include <charconv>

#include "longhaul/base/strings.h"

namespace longhaul {

std::string to_text(const HostAndPort& address) {
  const bool bare_ipv6 = address.host.find(':') != std::string::npos;
  return bare_ipv6 ? str_cat("[", address.host, "]:", address.port)
                   : str_cat(address.host, ":", address.port);
}

Result<HostAndPort> parse_host_and_port(const std::string& text) {
  const Failure not_one{ErrorKind::kInvalid, str_cat("'", text, "' is not HOST:PORT")};
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return not_one;
  HostAndPort parsed{text.substr(0, colon), 0};
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data() + colon + 1, last, parsed.port);
  if (error != std::errc() || end != last) return not_one;
  if (parsed.host.starts_with('[') && parsed.host.ends_with(']')) {
    parsed.host = parsed.host.substr(1, parsed.host.size() - 2);
  }
  return parsed;
}

}  // namespace longhaul

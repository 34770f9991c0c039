#include "control/worker/host/host_facts.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <regex>
#include <set>

#include "longhaul/base/strings.h"
#include "wire/socket.h"

namespace longhaul {

namespace fs = std::filesystem;

namespace {

bool same_host(const sockaddr& a, const sockaddr& b) {
  if (a.sa_family != b.sa_family) return false;
  if (a.sa_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in&>(a).sin_addr.s_addr ==
           reinterpret_cast<const sockaddr_in&>(b).sin_addr.s_addr;
  }
  return a.sa_family == AF_INET6 &&
         ::memcmp(&reinterpret_cast<const sockaddr_in6&>(a).sin6_addr,
                  &reinterpret_cast<const sockaddr_in6&>(b).sin6_addr, sizeof(in6_addr)) == 0;
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  // A name that is cut may come without an end: the array's last byte stays 0.
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

int usable_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  // It fails where the kernel knows more cores than a cpu_set_t holds.
  if (::sched_getaffinity(0, sizeof(cores), &cores) != 0) {
    return std::max(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
  }
  return std::max(1, CPU_COUNT(&cores));
}

int gpu_count() {
  static const std::regex device("nvidia[0-9]+");
  std::error_code ignored;
  int count = 0;
  for (const auto& entry : fs::directory_iterator("/dev", ignored)) {
    count += std::regex_match(entry.path().filename().string(), device) ? 1 : 0;
  }
  return count;
}

std::string interface_of(const std::string& address) {
  addrinfo* found = nullptr;
  ifaddrs* all = nullptr;
  if (address.empty() || ::getaddrinfo(address.c_str(), nullptr, nullptr, &found) != 0) return "";
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);
  if (::getifaddrs(&all) != 0) return "";
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> interfaces(all, &::freeifaddrs);
  std::set<std::string> names;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    for (const addrinfo* wanted = found; wanted != nullptr; wanted = wanted->ai_next) {
      if (one->ifa_addr != nullptr && same_host(*one->ifa_addr, *wanted->ai_addr)) {
        names.insert(one->ifa_name);
      }
    }
  }
  return names.size() == 1 ? *names.begin() : "";
}

Result<int> free_port(const std::string& address) {
  Result<UniqueFd> listener = listen_tcp(address, 0);
  // Behind NAT the address is not one of this host's.
  if (!listener) listener = listen_tcp("0.0.0.0", 0);
  if (!listener) return listener.failure();
  const Result<uint16_t> port = local_port(listener->get());
  if (!port) return port.failure();
  return static_cast<int>(*port);
}

Result<std::string> find_shim() {
  std::error_code ignored;
  const fs::path folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const fs::path beside = folder / "longhaul-shim";
  const fs::path libexec = folder.parent_path() / "libexec" / "longhaul-shim";
  for (const fs::path& path : {beside, libexec}) {
    if (::access(path.c_str(), X_OK) == 0) return path.string();
  }
  return Failure{ErrorKind::kInvalid, str_cat("longhaul-shim is missing: looked for ",
                                              beside.string(), " and ", libexec.string())};
}

}  // namespace longhaul

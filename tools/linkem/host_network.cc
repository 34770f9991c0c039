#include "tools/linkem/host_network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "longhaul/base/strings.h"

namespace longhaul::linkem {
namespace {

constexpr std::array<uint8_t, 3> kSubnet{10, 98, 0};
// Packets that wait at the device until the router reads them: more than come while another process
// has the core.
constexpr int kDeviceQueue = 20'000;

Failure failed(const std::string& what) {
  const int error = errno;
  const bool missing = error == EPERM || error == EACCES || error == ENOENT || error == ENODEV ||
                       error == ENXIO || error == ENOSYS;
  return {missing ? ErrorKind::kUnavailable : ErrorKind::kInternal,
          str_cat(what, ": ", std::strerror(error))};
}

UniqueFd own_namespace() {
  // The thread's, not the process's: that is what unshare() and setns() change.
  return UniqueFd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
}

// Brings the calling thread back when it goes.
class NamespaceVisit {
 public:
  NamespaceVisit() : home_(own_namespace()) {}
  ~NamespaceVisit() { ::setns(home_.get(), CLONE_NEWNET); }
  NamespaceVisit(const NamespaceVisit&) = delete;
  NamespaceVisit& operator=(const NamespaceVisit&) = delete;
  bool valid() const { return home_.valid(); }

 private:
  const UniqueFd home_;
};

ifreq request_for(const char* device) {
  ifreq request{};
  std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  return request;
}

Result<UniqueFd> open_tun() {
  UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!tun.valid()) return failed("TUN devices are needed: cannot open /dev/net/tun");
  ifreq request = request_for(kInterface);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (::ioctl(tun.get(), TUNSETIFF, &request) != 0) return failed("cannot make a TUN device");
  return tun;
}

sockaddr ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr =
      htonl(uint32_t{a} << 24 | uint32_t{b} << 16 | uint32_t{c} << 8 | uint32_t{d});
  sockaddr result;
  std::memcpy(&result, &address, sizeof result);
  return result;
}

Result<void> bring_up(int socket, const char* device) {
  ifreq request = request_for(device);
  if (::ioctl(socket, SIOCGIFFLAGS, &request) != 0) return failed(str_cat("flags of ", device));
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(socket, SIOCSIFFLAGS, &request) != 0) return failed(str_cat("bring up ", device));
  return {};
}

Result<void> configure(size_t host, uint32_t mtu) {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return failed("socket");
  const int fd = socket.get();
  ifreq request = request_for(kInterface);
  request.ifr_mtu = static_cast<int>(mtu);
  if (::ioctl(fd, SIOCSIFMTU, &request) != 0) return failed(str_cat("set MTU ", mtu));
  request.ifr_qlen = kDeviceQueue;
  if (::ioctl(fd, SIOCSIFTXQLEN, &request) != 0) return failed("set the device's queue");
  request.ifr_addr = ipv4(kSubnet[0], kSubnet[1], kSubnet[2], static_cast<uint8_t>(host + 1));
  if (::ioctl(fd, SIOCSIFADDR, &request) != 0) return failed("set the address");
  request.ifr_netmask = ipv4(255, 255, 255, 0);
  if (::ioctl(fd, SIOCSIFNETMASK, &request) != 0) return failed("set the netmask");
  if (Result<void> up = bring_up(fd, "lo"); !up) return up;
  return bring_up(fd, kInterface);
}

Result<void> write_sysctl(const std::string& name, const std::string& value) {
  std::string path = name;
  std::replace(path.begin(), path.end(), '.', '/');
  const UniqueFd file(::open(("/proc/sys/" + path).c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid() ||
      ::write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
    return Failure{ErrorKind::kInvalid, str_cat("--sysctl: cannot set ", name, " to '", value,
                                                "': ", std::strerror(errno))};
  }
  return {};
}

// Hosts speak IPv4 only; without this the kernel looks for IPv6 routers. A kernel without IPv6 has
// no such file.
void silence_ipv6() {
  for (const char* which : {"all", "default"}) {
    std::ofstream(str_cat("/proc/sys/net/ipv6/conf/", which, "/disable_ipv6")) << "1\n";
  }
}

Result<HostNetwork> make_host(size_t host, const HostNetworkOptions& options) {
  if (::unshare(CLONE_NEWNET) != 0)
    return failed("root is needed: cannot make a network namespace");
  HostNetwork network;
  network.net_namespace = own_namespace();
  if (!network.net_namespace.valid()) return failed("/proc/thread-self/ns/net");
  silence_ipv6();
  for (const auto& [name, value] : options.sysctls) {
    if (Result<void> written = write_sysctl(name, value); !written) return written.failure();
  }
  Result<UniqueFd> tun = open_tun();
  if (!tun) return tun.failure();
  network.tun = *std::move(tun);
  if (Result<void> done = configure(host, options.mtu); !done) return done.failure();
  return network;
}

}  // namespace

std::string host_address(size_t host) {
  return str_cat(int{kSubnet[0]}, ".", int{kSubnet[1]}, ".", int{kSubnet[2]}, ".", host + 1);
}

size_t host_of_address(const uint8_t* address) {
  if (!std::equal(kSubnet.begin(), kSubnet.end(), address) || address[3] == 0) return kMostHosts;
  return address[3] - size_t{1};
}

Result<std::vector<HostNetwork>> make_host_networks(size_t count,
                                                    const HostNetworkOptions& options) {
  const NamespaceVisit visit;
  if (!visit.valid()) return failed("/proc/thread-self/ns/net");
  std::vector<HostNetwork> hosts;
  hosts.reserve(count);
  for (size_t host = 0; host < count; ++host) {
    Result<HostNetwork> made = make_host(host, options);
    if (!made) return made.failure();
    hosts.push_back(*std::move(made));
  }
  return hosts;
}

uint64_t dropped_at_device(const HostNetwork& host) {
  const NamespaceVisit visit;
  if (!visit.valid() || ::setns(host.net_namespace.get(), CLONE_NEWNET) != 0) return 0;
  std::ifstream table("/proc/thread-self/net/dev");
  for (std::string line; std::getline(table, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.find(kInterface) > colon) continue;
    // Eight columns of what was received, then bytes, packets, errors and drops of what was sent.
    std::istringstream columns(line.substr(colon + 1));
    columns.imbue(std::locale::classic());
    uint64_t value = 0;
    for (int column = 0; column < 12; ++column) columns >> value;
    return columns ? value : 0;
  }
  return 0;
}

}  // namespace longhaul::linkem

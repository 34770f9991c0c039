#include "collectives/gloo_links.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <charconv>
#include <cstring>
#include <vector>

#include "base/unique_fd.h"

namespace longhaul {
namespace {

// The descriptors of this process that are open right now.
std::vector<int> open_descriptors() {
  std::vector<int> descriptors;
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return descriptors;
  while (const dirent* entry = readdir(folder)) {
    int fd = -1;
    const char* end = entry->d_name + std::strlen(entry->d_name);
    if (std::from_chars(entry->d_name, end, fd).ptr == end && fd != dirfd(folder)) {
      descriptors.push_back(fd);
    }
  }
  closedir(folder);
  return descriptors;
}

// The port of one side of a TCP socket; 0 for anything else.
uint16_t port_of(int fd, decltype(&getsockname) side) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (side(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  if (address.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  }
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  }
  return 0;
}

bool socket_option_is(int fd, int option, int wanted) {
  int value = 0;
  socklen_t length = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 && value == wanted;
}

std::set<uint16_t> listening_ports() {
  std::set<uint16_t> ports;
  for (const int fd : open_descriptors()) {
    if (!socket_option_is(fd, SO_TYPE, SOCK_STREAM) || !socket_option_is(fd, SO_ACCEPTCONN, 1)) {
      continue;
    }
    if (const uint16_t port = port_of(fd, getsockname)) ports.insert(port);
  }
  return ports;
}

}  // namespace

GlooDevice make_gloo_device(
    const std::function<std::shared_ptr<::gloo::transport::Device>()>& make) {
  // Of the process, as the table of descriptors is: two devices made at once could not be told
  // apart.
  static Mutex mutex;
  const MutexLock lock(mutex);
  const std::set<uint16_t> before = listening_ports();
  GlooDevice made;
  made.device = make();
  std::vector<uint16_t> fresh;
  for (const uint16_t port : listening_ports()) {
    if (before.count(port) == 0) fresh.push_back(port);
  }
  if (fresh.size() == 1) made.port = fresh[0];
  return made;
}

void GlooLinks::for_each(const std::function<void(int fd)>& visit) const {
  if (own_port_ == 0) return;
  // Ranks that are threads of this process have their ends here too; those are theirs to cut.
  const std::set<uint16_t> local = listening_ports();
  for (const int open : open_descriptors()) {
    // Looked at and visited through a copy: its owner may close the descriptor at any time, and the
    // number could then be another file's.
    const UniqueFd fd(fcntl(open, F_DUPFD_CLOEXEC, 0));
    if (!fd.valid() || !socket_option_is(fd.get(), SO_TYPE, SOCK_STREAM)) continue;
    const uint16_t peer = port_of(fd.get(), getpeername);
    if (peer == 0) continue;
    const bool accepted = port_of(fd.get(), getsockname) == own_port_;
    const bool connected = peer_ports_.count(peer) > 0 && local.count(peer) == 0;
    if (accepted || connected) visit(fd.get());
  }
}

// shutdown() acts on the connection, not on the descriptor: Gloo's threads see its end, and Gloo
// still owns the descriptor and closes it.
void GlooLinks::sever() {
  for_each([](int fd) { shutdown(fd, SHUT_RDWR); });
}

std::vector<ConnectionReading> GlooLinks::readings() const {
  std::vector<ConnectionReading> readings;
  for_each([&](int fd) {
    if (const auto reading = read_connection(fd)) readings.push_back(*reading);
  });
  return readings;
}

}  // namespace longhaul

#include "wire/socket.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <system_error>

#include "longhaul/base/strings.h"
#include "wire/host_and_port.h"

namespace longhaul {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

std::string errno_text(int error) {
  return std::generic_category().message(error);
}

Result<AddressList> resolve(const std::string& host, uint16_t port, int socket_type, int flags) {
  // getaddrinfo would take it for "any" or for loopback, whichever the caller did not mean.
  if (host.empty()) return Failure{ErrorKind::kInvalid, "no host name given"};
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = socket_type;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error == EAI_AGAIN) {
    return Failure{ErrorKind::kUnavailable,
                   str_cat("cannot look up '", host, "' now: ", ::gai_strerror(error))};
  }
  if (error != 0) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("no such host '", host, "': ", ::gai_strerror(error))};
  }
  return AddressList(found, &::freeaddrinfo);
}

UniqueFd open_socket(const addrinfo& address) {
  return UniqueFd(::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                           address.ai_protocol));
}

// Waits for `events`, in spite of signals; false when the deadline passed first. Readiness is only
// a hint: callers try again without blocking, and wait again.
bool wait_for(int fd, short events, Instant deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
    // Past the deadline nothing counts any more, or a peer that trickles bytes would hold us.
    if (left.count() <= 0) return false;
    const int64_t bounded = std::min<int64_t>(left.count(), std::numeric_limits<int>::max());
    pollfd waiting{fd, events, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(bounded));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

// 0, or the errno that stood in the way.
int listen_on(const addrinfo& address, UniqueFd* listener) {
  UniqueFd fd = open_socket(address);
  if (!fd.valid()) return errno;
  // A daemon that starts again must get its port although connections of its last life are still in
  // TIME_WAIT.
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0) return errno;
  if (::listen(fd.get(), SOMAXCONN) != 0) return errno;
  *listener = std::move(fd);
  return 0;
}

// Small control messages must not wait for an acknowledgement of the one before (Nagle). Both ends
// say so for what they send: an accepted connection does not have it from its listener everywhere.
void send_at_once(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

int connect_to(const addrinfo& address, Instant deadline, UniqueFd* connection) {
  UniqueFd fd = open_socket(address);
  if (!fd.valid()) return errno;
  if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0) {
    // Interrupted or not, the kernel goes on connecting; how it ended is asked of SO_ERROR.
    if (errno != EINPROGRESS && errno != EINTR) return errno;
    if (!wait_for(fd.get(), POLLOUT, deadline)) return ETIMEDOUT;
    int error = 0;
    socklen_t size = sizeof(error);
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
    if (error != 0) return error;
  }
  send_at_once(fd.get());
  *connection = std::move(fd);
  return 0;
}

Failure out_of_time(const char* doing, size_t done, size_t wanted) {
  return {ErrorKind::kDeadline,
          str_cat("out of time ", doing, ": ", done, " of ", wanted, " bytes")};
}

Failure connection_lost(const char* doing, size_t done, size_t wanted, const std::string& why) {
  return {ErrorKind::kPeerLost,
          str_cat("connection lost ", doing, " (", why, "): ", done, " of ", wanted, " bytes")};
}

bool would_block(int error) {
  return error == EAGAIN || error == EWOULDBLOCK;
}

}  // namespace

Result<UniqueFd> listen_tcp(const std::string& host, uint16_t port) {
  Result<AddressList> addresses = resolve(host, port, SOCK_STREAM, AI_PASSIVE);
  if (!addresses) return addresses.failure();
  int error = 0;
  for (const addrinfo* address = addresses->get(); address != nullptr; address = address->ai_next) {
    UniqueFd listener;
    error = listen_on(*address, &listener);
    if (error == 0) return listener;
  }
  return Failure{ErrorKind::kUnavailable,
                 str_cat("cannot listen on ", to_text({host, port}), ": ", errno_text(error))};
}

Result<uint16_t> local_port(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return Failure{ErrorKind::kInternal, str_cat("no local port: ", errno_text(errno))};
  }
  if (address.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
  }
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port);
  }
  return Failure{ErrorKind::kInternal, "no local port: not an internet socket"};
}

Result<UniqueFd> accept_tcp(int listener, Instant deadline) {
  for (;;) {
    UniqueFd connection(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.valid()) {
      send_at_once(connection.get());
      return connection;
    }
    // A connection that was reset before it was accepted is the peer's trouble, not ours.
    if (!would_block(errno) && errno != EINTR && errno != ECONNABORTED) {
      return Failure{ErrorKind::kInternal, str_cat("cannot accept: ", errno_text(errno))};
    }
    if (!wait_for(listener, POLLIN, deadline)) {
      return Failure{ErrorKind::kDeadline, "out of time waiting for a connection"};
    }
  }
}

Result<UniqueFd> connect_tcp(const std::string& host, uint16_t port, milliseconds timeout) {
  const Instant deadline = std::chrono::steady_clock::now() + timeout;
  Result<AddressList> addresses = resolve(host, port, SOCK_STREAM, 0);
  if (!addresses) return addresses.failure();
  int error = 0;
  for (const addrinfo* address = addresses->get(); address != nullptr; address = address->ai_next) {
    UniqueFd connection;
    error = connect_to(*address, deadline, &connection);
    if (error == 0) return connection;
  }
  const ErrorKind kind = error == ETIMEDOUT ? ErrorKind::kDeadline : ErrorKind::kUnavailable;
  return Failure{kind,
                 str_cat("cannot connect to ", to_text({host, port}), ": ", errno_text(error))};
}

// Connecting a UDP socket sends nothing: the kernel only looks the route up and picks the source.
Result<std::string> local_address_towards(const std::string& host, uint16_t port) {
  Result<AddressList> addresses = resolve(host, port, SOCK_DGRAM, 0);
  if (!addresses) return addresses.failure();
  int error = 0;
  for (const addrinfo* address = addresses->get(); address != nullptr; address = address->ai_next) {
    const UniqueFd fd = open_socket(*address);
    sockaddr_storage local{};
    socklen_t size = sizeof(local);
    if (!fd.valid() || ::connect(fd.get(), address->ai_addr, address->ai_addrlen) != 0 ||
        ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&local), &size) != 0) {
      error = errno;
      continue;
    }
    char text[NI_MAXHOST];
    if (::getnameinfo(reinterpret_cast<sockaddr*>(&local), size, text, sizeof(text), nullptr, 0,
                      NI_NUMERICHOST) == 0) {
      return std::string(text);
    }
  }
  return Failure{ErrorKind::kUnavailable,
                 str_cat("no route to ", to_text({host, port}), ": ", errno_text(error))};
}

// MSG_NOSIGNAL: a peer that is gone is an error of this call, not a SIGPIPE for the process.
// MSG_DONTWAIT: also on a blocking descriptor nothing waits but wait_for(), which has a deadline.
Result<void> write_all(int fd, ByteSpan bytes, Instant deadline) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t sent =
        ::send(fd, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      done += static_cast<size_t>(sent);
    } else if (would_block(errno)) {
      if (!wait_for(fd, POLLOUT, deadline)) return out_of_time("writing", done, bytes.size());
    } else if (errno != EINTR) {
      return connection_lost("writing", done, bytes.size(), errno_text(errno));
    }
  }
  return {};
}

Result<void> read_exactly(int fd, MutableByteSpan bytes, Instant deadline) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::recv(fd, bytes.data() + done, bytes.size() - done, MSG_DONTWAIT);
    if (got > 0) {
      done += static_cast<size_t>(got);
    } else if (got == 0) {
      return connection_lost("reading", done, bytes.size(), "closed by the other side");
    } else if (would_block(errno)) {
      if (!wait_for(fd, POLLIN, deadline)) return out_of_time("reading", done, bytes.size());
    } else if (errno != EINTR) {
      return connection_lost("reading", done, bytes.size(), errno_text(errno));
    }
  }
  return {};
}

}  // namespace longhaul

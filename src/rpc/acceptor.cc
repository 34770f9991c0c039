#include "rpc/acceptor.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "base/descriptors.h"
#include "base/log.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// After an accept() that failed: long enough not to spin, and short for a client that waits.
constexpr int kPauseMs = 100;

// The kernel gives the lowest descriptor that is free, so a high number means that those below it
// are in use.
bool is_of_the_reserve(int fd) {
  return static_cast<uint64_t>(fd) + Acceptor::kReservedDescriptors >= descriptor_limit();
}

}  // namespace

Result<UniqueFd> listen_unix(const std::string& path) {
  const auto failure = [&path] {
    return Failure{ErrorKind::kUnavailable, str_cat("socket ", path, ": ", ::strerror(errno))};
  };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  errno = ENAMETOOLONG;
  if (path.size() >= sizeof(address.sun_path)) return failure();
  std::copy(path.begin(), path.end(), address.sun_path);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return failure();
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0) {
    return failure();
  }
  return fd;
}

Acceptor::Server Acceptor::add_to(grpc::ServerBuilder& builder, const Credentials& credentials) {
  using Type = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  return builder.experimental().AddExternalConnectionAcceptor(Type::FROM_FD,
                                                              credentials.listening());
}

Acceptor::Acceptor(std::string who, UniqueFd listener, Server server)
    : who_(std::move(who)),
      listener_(std::move(listener)),
      stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      server_(std::move(server)),
      thread_("lh-accept", [this] { run(); }) {}

Acceptor::~Acceptor() {
  const uint64_t one = 1;
  // Wakes run(), wherever it waits.
  (void)!::write(stop_.get(), &one, sizeof(one));
  thread_.join();
}

void Acceptor::run() {
  for (;;) {
    pollfd waiting[] = {{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (::poll(waiting, 2, -1) < 0) {
      if (errno == EINTR) continue;
      // Short of memory: it goes on, or nobody could connect for the rest of this server's life.
      complain(str_cat("cannot wait for connections now: ", ::strerror(errno)));
      std::this_thread::sleep_for(std::chrono::milliseconds(kPauseMs));
      continue;
    }
    if (waiting[1].revents != 0) return;
    if (take_one()) continue;
    // Without this pause the listener, which stays readable, would wake poll() at once. Whoever
    // wants to connect waits in its queue; a stop is heard at once.
    (void)::poll(&waiting[1], 1, kPauseMs);
  }
}

// Takes one connection. False: none can be taken at the moment.
bool Acceptor::take_one() {
  UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection.valid()) {
    // Nobody is there (any more): a client may give up between poll() and accept().
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED || errno == EPROTO) return true;
    complain(str_cat("cannot take connections now: ", ::strerror(errno)));
    return false;
  }
  if (is_of_the_reserve(connection.get())) {
    refuse(std::move(connection));
    return true;
  }
  last_complaint_.clear();
  // Fails on a unix socket, which has no Nagle's algorithm to be switched off.
  const int on = 1;
  (void)::setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.listener_fd = listener_.get();
  // From here on the connection is gRPC's.
  parameters.fd = connection.release();
  server_->HandleNewConnection(&parameters);
  return true;
}

void Acceptor::refuse(UniqueFd connection) {
  complain(str_cat("too many connections: all but ", kReservedDescriptors, " of ",
                   descriptor_limit(), " open files are in use; new ones are closed"));
  connection.reset();
}

void Acceptor::complain(const std::string& why) {
  if (std::exchange(last_complaint_, why) == why) return;
  log(LogLevel::kWarning, who_, why);
}

}  // namespace longhaul

// TCP sockets as values: addresses through getaddrinfo (names, IPv4, IPv6), deadlines on every
// wait, errors that say which address was tried. Descriptors are close-on-exec and non-blocking.
//
// Thread safety: free functions; one thread at a time reads a socket and one writes it.
#pragma once

#include <cstdint>
#include <string>

#include "base/unique_fd.h"
#include "longhaul/base/bytes.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/result.h"

namespace longhaul {

// A listening socket; port 0 takes a free one (local_port() says which). "0.0.0.0" listens on every
// IPv4 address, "::" on every address. Errors: kInvalid (unknown or empty host), kUnavailable
// (address in use or not ours).
Result<UniqueFd> listen_tcp(const std::string& host, uint16_t port);

// The port that a socket is bound to.
Result<uint16_t> local_port(int fd);

// Waits for a connection on a listening socket. Errors: kDeadline, kInternal.
Result<UniqueFd> accept_tcp(int listener, Instant deadline);

// Tries each address of `host` in turn. Errors: kInvalid (unknown host), kUnavailable (nobody
// listens), kDeadline (no answer within `timeout` for all addresses together).
Result<UniqueFd> connect_tcp(const std::string& host, uint16_t port, milliseconds timeout);

// The address of this machine that packets to host:port would leave from, as text. Nothing is sent.
// Errors: kInvalid (unknown host), kUnavailable (no route).
Result<std::string> local_address_towards(const std::string& host, uint16_t port);

// Write or fill all of `bytes`. Errors: kDeadline (says how much was done), kPeerLost (closed,
// reset).
Result<void> write_all(int fd, ByteSpan bytes, Instant deadline);
Result<void> read_exactly(int fd, MutableByteSpan bytes, Instant deadline);

}  // namespace longhaul

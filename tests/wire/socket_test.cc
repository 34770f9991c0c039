#include "wire/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <numeric>
#include <vector>

#include "base/thread.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;

Instant in(int ms) {
  return std::chrono::steady_clock::now() + milliseconds(ms);
}

constexpr int kLongMs = 20'000;  // for what must happen: never waited for
constexpr int kShortMs = 30;     // for what must not happen

struct Connection {
  UniqueFd client;
  UniqueFd server;
};

Connection connect_on(const std::string& host) {
  Result<UniqueFd> listener = listen_tcp(host, 0);
  EXPECT_TRUE(listener) << listener.failure().message;
  const uint16_t port = local_port(listener->get()).value();
  EXPECT_GT(port, 0);
  Result<UniqueFd> client = connect_tcp(host, port, milliseconds(kLongMs));
  EXPECT_TRUE(client) << client.failure().message;
  Result<UniqueFd> server = accept_tcp(listener->get(), in(kLongMs));
  EXPECT_TRUE(server) << server.failure().message;
  return {std::move(*client), std::move(*server)};
}

bool sends_at_once(int fd) {
  int on = 0;
  socklen_t size = sizeof(on);
  return ::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0 && on != 0;
}

// A port of 127.0.0.1 that nobody listens on: bound, never listening, so that nobody else takes it.
struct SilentPort {
  UniqueFd holder{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  uint16_t port = 0;

  SilentPort() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(holder.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    port = local_port(holder.get()).value();
  }
};

bool machine_has_ipv6() {
  return listen_tcp("::1", 0).ok();
}

void expect_bytes_pass_both_ways(const std::string& host) {
  const Connection connection = connect_on(host);
  std::vector<uint8_t> sent(1'000'003);
  std::iota(sent.begin(), sent.end(), uint8_t{0});
  std::vector<uint8_t> received(sent.size());
  // More than the socket buffers hold: both ends must wait for each other.
  Thread writer("writer", [&] {
    const Result<void> written = write_all(connection.client.get(), sent, in(kLongMs));
    EXPECT_TRUE(written) << written.failure().message;
  });
  const Result<void> read = read_exactly(connection.server.get(), received, in(kLongMs));
  writer.join();
  ASSERT_TRUE(read) << read.failure().message;
  EXPECT_TRUE(received == sent);
  EXPECT_TRUE(write_all(connection.server.get(), ByteSpan(sent).first(3), in(kLongMs)));
  EXPECT_TRUE(
      read_exactly(connection.client.get(), MutableByteSpan(received).first(3), in(kLongMs)));
}

TEST(SocketTest, BothEndsSendSmallMessagesAtOnce) {
  const Connection connection = connect_on("127.0.0.1");
  EXPECT_TRUE(sends_at_once(connection.client.get()));
  EXPECT_TRUE(sends_at_once(connection.server.get()));
}

TEST(SocketTest, BytesPassBothWaysOverIpv4) {
  expect_bytes_pass_both_ways("127.0.0.1");
}

TEST(SocketTest, BytesPassBothWaysOverIpv6) {
  if (!machine_has_ipv6()) GTEST_SKIP() << "this machine has no IPv6 loopback";
  expect_bytes_pass_both_ways("::1");
}

TEST(SocketTest, NamesAreLookedUp) {
  expect_bytes_pass_both_ways("localhost");
}

TEST(SocketTest, DescriptorsDoNotLeakIntoPrograms) {
  const Connection connection = connect_on("127.0.0.1");
  for (const int fd : {connection.client.get(), connection.server.get()}) {
    EXPECT_TRUE(::fcntl(fd, F_GETFD) & FD_CLOEXEC);
  }
}

TEST(SocketTest, NobodyListeningIsUnavailableAndNamesTheAddress) {
  const SilentPort silent;
  const Result<UniqueFd> client = connect_tcp("127.0.0.1", silent.port, milliseconds(kLongMs));
  ASSERT_FALSE(client);
  EXPECT_EQ(client.failure().kind, ErrorKind::kUnavailable);
  EXPECT_THAT(client.failure().message,
              HasSubstr("cannot connect to 127.0.0.1:" + std::to_string(silent.port)));
}

TEST(SocketTest, ATakenPortIsUnavailable) {
  const Result<UniqueFd> first = listen_tcp("127.0.0.1", 0);
  const uint16_t port = local_port(first->get()).value();
  const Result<UniqueFd> second = listen_tcp("127.0.0.1", port);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.failure().kind, ErrorKind::kUnavailable);
  EXPECT_THAT(second.failure().message, HasSubstr("127.0.0.1:" + std::to_string(port)));
}

TEST(SocketTest, ABadHostIsTheCallersMistake) {
  for (const char* host : {"", "no host name has blanks", "300.1.2.3.4"}) {
    // Some resolvers cannot tell "no such host" from "no answer now".
    const auto expect_refused = [&](const Failure& failure) {
      EXPECT_TRUE(failure.kind == ErrorKind::kInvalid || failure.kind == ErrorKind::kUnavailable);
      EXPECT_THAT(failure.message, HasSubstr(host));
    };
    expect_refused(connect_tcp(host, 1, milliseconds(kLongMs)).failure());
    expect_refused(listen_tcp(host, 0).failure());
    expect_refused(local_address_towards(host, 1).failure());
  }
}

TEST(SocketTest, ReadingStopsAtTheDeadlineAndSaysHowFarItGot) {
  const Connection connection = connect_on("127.0.0.1");
  std::vector<uint8_t> bytes(10);
  ASSERT_TRUE(write_all(connection.client.get(), ByteSpan(bytes).first(4), in(kLongMs)));
  const Result<void> read = read_exactly(connection.server.get(), bytes, in(kShortMs));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.failure().kind, ErrorKind::kDeadline);
  EXPECT_THAT(read.failure().message, HasSubstr("4 of 10 bytes"));
}

TEST(SocketTest, WritingStopsAtTheDeadlineWhenNobodyReads) {
  const Connection connection = connect_on("127.0.0.1");
  const std::vector<uint8_t> more_than_buffers_hold(64 << 20);
  const Result<void> written =
      write_all(connection.client.get(), more_than_buffers_hold, in(kShortMs));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.failure().kind, ErrorKind::kDeadline);
}

TEST(SocketTest, AcceptingStopsAtTheDeadline) {
  const Result<UniqueFd> listener = listen_tcp("127.0.0.1", 0);
  const Result<UniqueFd> nobody = accept_tcp(listener->get(), in(kShortMs));
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.failure().kind, ErrorKind::kDeadline);
}

TEST(SocketTest, AClosedConnectionIsALostPeer) {
  Connection connection = connect_on("127.0.0.1");
  std::vector<uint8_t> bytes(10);
  ASSERT_TRUE(write_all(connection.client.get(), ByteSpan(bytes).first(4), in(kLongMs)));
  connection.client.reset();
  const Result<void> read = read_exactly(connection.server.get(), bytes, in(kLongMs));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.failure().kind, ErrorKind::kPeerLost);
  EXPECT_THAT(read.failure().message, HasSubstr("4 of 10 bytes"));

  // The other side answers the first write with a reset; a later one sees it. No SIGPIPE ends us.
  Result<void> written;
  while (written) written = write_all(connection.server.get(), bytes, in(kLongMs));
  EXPECT_EQ(written.failure().kind, ErrorKind::kPeerLost);
}

TEST(SocketTest, NothingToReadOrWriteIsDoneAtOnce) {
  const Connection connection = connect_on("127.0.0.1");
  EXPECT_TRUE(write_all(connection.client.get(), {}, in(-1)));
  EXPECT_TRUE(read_exactly(connection.client.get(), {}, in(-1)));
}

TEST(SocketTest, TheAddressTowardsLoopbackIsLoopback) {
  EXPECT_EQ(local_address_towards("127.0.0.1", 9).value(), "127.0.0.1");
  if (machine_has_ipv6()) {
    EXPECT_EQ(local_address_towards("::1", 9).value(), "::1");
  }
}

TEST(SocketTest, OnlyInternetSocketsHaveAPort) {
  const UniqueFd unix_socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_FALSE(local_port(unix_socket.get()));
  EXPECT_FALSE(local_port(-1));
}

}  // namespace
}  // namespace longhaul

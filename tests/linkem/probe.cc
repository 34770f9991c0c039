// What the hosts of run_test.cc run. One mode a word:
//   tcp BYTES          host 0 receives BYTES from each other host and prints their sum
//   udp COUNT BYTES    the last host sends COUNT datagrams of BYTES payload to host 0
//   hold               starts a daemon that has left its session, prints "holding NAMESPACE", waits
//   deaf               as hold, but nobody listens to SIGTERM
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "longhaul/base/strings.h"

namespace {

using longhaul::UniqueFd;

// Each host has a network of its own, so that no port can be taken.
constexpr uint16_t kPort = 5000;

[[noreturn]] void fail(const std::string& what) {
  std::cerr << what << ": " << std::strerror(errno) << "\n";
  std::exit(1);
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) fail(name);
  return value;
}

sockaddr_in address_of(const std::string& ip) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPort);
  ::inet_pton(AF_INET, ip.c_str(), &address.sin_addr);
  return address;
}

size_t receive_all(int fd) {
  std::vector<char> buffer(size_t{1} << 16);
  size_t total = 0;
  for (;;) {
    const ssize_t bytes = ::read(fd, buffer.data(), buffer.size());
    if (bytes < 0) fail("read");
    if (bytes == 0) return total;
    total += static_cast<size_t>(bytes);
  }
}

void receive_from(size_t peers) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in address = address_of(variable("LINKEM_ADDRESS"));
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    fail("bind");
  }
  if (::listen(listener.get(), 16) != 0) fail("listen");
  size_t total = 0;
  for (size_t i = 0; i < peers; ++i) {
    const UniqueFd peer(::accept(listener.get(), nullptr, nullptr));
    if (!peer.valid()) fail("accept");
    total += receive_all(peer.get());
    // So that the sender knows that all of it is there.
    if (::write(peer.get(), "k", 1) != 1) fail("write");
  }
  std::cout << "received " << total << std::endl;
}

UniqueFd connect_to(const std::string& ip) {
  const sockaddr_in address = address_of(ip);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (std::chrono::steady_clock::now() < deadline) {
    UniqueFd socket(::socket(AF_INET, SOCK_STREAM, 0));
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      return socket;
    }
    if (errno != ECONNREFUSED) fail("connect");  // refused: it does not listen yet
    ::usleep(2000);
  }
  fail("connect");
}

void send_to_first(const std::string& first, size_t bytes) {
  const UniqueFd socket = connect_to(first);
  const std::vector<char> data(size_t{1} << 16, 'x');
  while (bytes > 0) {
    const ssize_t sent = ::write(socket.get(), data.data(), std::min(bytes, data.size()));
    if (sent <= 0) fail("write");
    bytes -= static_cast<size_t>(sent);
  }
  ::shutdown(socket.get(), SHUT_WR);
  char answer = 0;
  if (::read(socket.get(), &answer, 1) != 1) fail("no answer");
}

void send_datagrams(const std::string& to, int count, size_t bytes) {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in address = address_of(to);
  const std::vector<char> data(bytes, 'u');
  for (int i = 0; i < count; ++i) {
    if (::sendto(socket.get(), data.data(), data.size(), 0,
                 reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
      fail("sendto");
    }
  }
}

[[noreturn]] void hold(bool deaf) {
  if (deaf) ::signal(SIGTERM, SIG_IGN);
  if (::fork() == 0) {
    ::setsid();
    for (;;) ::pause();
  }
  std::array<char, 64> link{};
  if (::readlink("/proc/self/ns/net", link.data(), link.size() - 1) < 0) fail("readlink");
  std::cout << "holding " << link.data() << std::endl;
  for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty()) return 64;
  const size_t host = std::stoul(variable("LINKEM_HOST"));
  const size_t hosts = std::stoul(variable("LINKEM_HOSTS"));
  const std::string first = longhaul::split(variable("LINKEM_PEERS"), ',')[0];
  if (words[0] == "tcp" && host == 0) {
    receive_from(hosts - 1);
  } else if (words[0] == "tcp") {
    send_to_first(first, std::stoul(words.at(1)));
  } else if (words[0] == "udp" && host == hosts - 1) {
    send_datagrams(first, std::stoi(words.at(1)), std::stoul(words.at(2)));
  } else if (words[0] == "hold" || words[0] == "deaf") {
    hold(words[0] == "deaf");
  }
  return 0;
}

#include "tools/linkem/run.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>

#include "apps/common/flags.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/strings.h"
#include "tools/linkem/command_group.h"
#include "tools/linkem/line_prefixer.h"
#include "tools/linkem/report.h"
#include "tools/linkem/router.h"

namespace longhaul::linkem {
namespace {

using std::chrono::milliseconds;

int exit_code_of(const Failure& failure) {
  std::cerr << "linkem: " << failure.message << "\n";
  switch (failure.kind) {
    case ErrorKind::kInvalid:
      return kExitUsage;
    case ErrorKind::kUnavailable:
      return kExitMissing;
    default:
      return kExitInternal;
  }
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno != EINTR) return false;
    if (written > 0) text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

// The signals that stop us, as something to poll. Blocked from here on, in every thread.
UniqueFd take_stop_signals() {
  ::signal(SIGPIPE, SIG_IGN);  // a reader that goes away is an error of write()
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  struct sigaction hangup{};
  ::sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&signals, SIGHUP);  // nohup wants it ignored
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  return UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

// One stream of one command on its way to ours.
struct OutputStream {
  UniqueFd from;
  int to;
  LinePrefixer lines;
};

class Emulation {
 public:
  explicit Emulation(const RunOptions& options) : options_(options) {}

  int run() {
    signals_ = take_stop_signals();
    Result<std::vector<HostNetwork>> networks =
        make_host_networks(options_.hosts.size(), options_.network);
    if (!networks) return exit_code_of(networks.failure());
    networks_ = *std::move(networks);
    Result<CommandGroup> group = CommandGroup::start(make_commands());
    close_childrens_ends();
    if (!group) return exit_code_of(group.failure());
    group_.emplace(*std::move(group));
    Router router(options_.hosts, options_.seed, tuns(),
                  {options_.network.mtu, options_.real_time});
    if (Result<void> started = router.start(); !started) return exit_code_of(started.failure());
    group_->begin();
    while (!ended_) serve_once();
    drain_outputs();
    return report(router.stop());
  }

 private:
  bool is_single() const { return options_.only_on.has_value() || options_.hosts.size() == 1; }

  std::vector<int> tuns() const {
    std::vector<int> descriptors;
    descriptors.reserve(networks_.size());
    for (const HostNetwork& network : networks_) descriptors.push_back(network.tun.get());
    return descriptors;
  }

  std::vector<Command> make_commands() {
    std::vector<Command> commands;
    for (size_t host = 0; host < options_.hosts.size(); ++host) {
      if (!options_.only_on || *options_.only_on == host) commands.push_back(make_command(host));
    }
    return commands;
  }

  Command make_command(size_t host) {
    const size_t hosts = options_.hosts.size();
    std::vector<std::string> addresses;
    addresses.reserve(hosts);
    for (size_t peer = 0; peer < hosts; ++peer) addresses.push_back(host_address(peer));
    Command command;
    command.host = host;
    command.words = words_for_host(options_.command, host, hosts);
    command.environment = {str_cat("LINKEM_HOST=", host), str_cat("LINKEM_HOSTS=", hosts),
                           "LINKEM_ADDRESS=" + host_address(host),
                           "LINKEM_PEERS=" + join(addresses, ","),
                           str_cat("LINKEM_INTERFACE=", kInterface)};
    command.net_namespace = networks_[host].net_namespace.get();
    if (is_single()) return command;  // its streams are ours, so that a shell works
    childrens_ends_.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    command.input = childrens_ends_.back().get();
    if (options_.prefix) {
      command.output = add_stream(host, STDOUT_FILENO);
      command.errors = add_stream(host, STDERR_FILENO);
    }
    return command;
  }

  // A pipe from a command to our `to`; the end for the command.
  int add_stream(size_t host, int to) {
    std::array<int, 2> ends{-1, -1};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return -1;  // then its lines come without a prefix
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    streams_.push_back({UniqueFd(ends[0]), to, LinePrefixer(str_cat("[", host, "] "))});
    childrens_ends_.emplace_back(ends[1]);
    return ends[1];
  }

  void close_childrens_ends() { childrens_ends_.clear(); }

  void serve_once() {
    std::vector<pollfd> watched{{signals_.get(), POLLIN, 0}, {group_->fd(), POLLIN, 0}};
    for (const OutputStream& stream : streams_) watched.push_back({stream.from.get(), POLLIN, 0});
    if (::poll(watched.data(), watched.size(), milliseconds_to_kill()) < 0) return;
    if (milliseconds_to_kill() == 0) group_->kill();
    if (watched[0].revents != 0) take_signal();
    for (size_t i = 0; i < streams_.size(); ++i) {
      if (watched[i + 2].revents != 0) pass_on(&streams_[i]);
    }
    if (watched[1].revents != 0) take_end();
  }

  // -1: there is nothing to wait for.
  int milliseconds_to_kill() const {
    if (!kill_at_) return -1;
    const auto left = std::chrono::ceil<milliseconds>(*kill_at_ - clock_.now());
    return static_cast<int>(std::max<int64_t>(0, left.count()));
  }

  void take_signal() {
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) != sizeof info) return;
    const int signal = static_cast<int>(info.ssi_signo);
    // What a terminal sends, it sends to the commands as well; a single one, a shell say, decides.
    const bool from_terminal = info.ssi_code == SI_KERNEL;
    if (from_terminal && signal == SIGINT && is_single()) return;
    if (kill_at_) {  // asked twice
      group_->kill();
      return;
    }
    exit_code_ = 128 + signal;
    if (!from_terminal) group_->signal(signal);
    kill_at_ = clock_.now() + options_.grace;
  }

  void take_end() {
    const std::optional<CommandEnd> end = group_->take_end();
    if (!end) {
      ended_ = true;
      if (ends_seen_ == 0 && exit_code_ == 0) exit_code_ = kExitInternal;
      return;
    }
    ++ends_seen_;
    if (end->exit_code == 0 || exit_code_ != 0) return;
    exit_code_ = end->exit_code;
    if (options_.fail_fast) stop_commands(SIGTERM);
  }

  void stop_commands(int signal) {
    if (kill_at_) return;
    group_->signal(signal);
    kill_at_ = clock_.now() + options_.grace;
  }

  // Up to what the pipe holds now.
  void pass_on(OutputStream* stream) {
    std::array<char, 65536> buffer;
    const ssize_t bytes = ::read(stream->from.get(), buffer.data(), buffer.size());
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return;
    const std::string lines = bytes > 0
                                  ? stream->lines.add({buffer.data(), static_cast<size_t>(bytes)})
                                  : stream->lines.flush();
    if (bytes <= 0) stream->from.reset();  // poll() passes over -1
    if (write_all(stream->to, lines)) return;
    // Whoever read us has gone: so do the commands, as in any pipeline.
    if (exit_code_ == 0) exit_code_ = 128 + SIGPIPE;
    stop_commands(SIGTERM);
  }

  // Every process of the commands has ended, so every pipe has an end.
  void drain_outputs() {
    for (OutputStream& stream : streams_) {
      while (stream.from.valid()) {
        pollfd readable{stream.from.get(), POLLIN, 0};
        if (::poll(&readable, 1, 1000) <= 0) break;
        pass_on(&stream);
      }
    }
  }

  int report(RouterReport router) const {
    Report report;
    report.seed = options_.seed;
    report.exit_code = exit_code_;
    report.router = std::move(router);
    for (const HostNetwork& network : networks_) {
      report.dropped_at_device.push_back(dropped_at_device(network));
    }
    if (options_.summary == RunOptions::Summary::kText) std::cerr << report_as_text(report);
    if (options_.summary == RunOptions::Summary::kJson) std::cerr << report_as_json(report) << "\n";
    if (options_.report_file.empty()) return exit_code_;
    std::ofstream file(options_.report_file);
    file << report_as_json(report) << "\n";
    file.close();
    if (file) return exit_code_;
    std::cerr << "linkem: cannot write the report to " << options_.report_file << "\n";
    return exit_code_ != 0 ? exit_code_ : kExitInternal;
  }

  const RunOptions& options_;
  const SystemClock clock_;
  UniqueFd signals_;
  std::vector<HostNetwork> networks_;
  std::vector<UniqueFd> childrens_ends_;
  std::vector<OutputStream> streams_;
  std::optional<CommandGroup> group_;
  std::optional<Instant> kill_at_;
  int exit_code_ = 0;
  size_t ends_seen_ = 0;
  bool ended_ = false;
};

void replace_all(std::string* text, const std::string& from, const std::string& to) {
  for (size_t at = text->find(from); at != std::string::npos; at = text->find(from, at)) {
    text->replace(at, from.size(), to);
    at += to.size();
  }
}

}  // namespace

std::vector<std::string> words_for_host(const std::vector<std::string>& command, size_t host,
                                        size_t hosts) {
  std::vector<std::string> words = command;
  for (std::string& word : words) {
    replace_all(&word, "{host}", std::to_string(host));
    replace_all(&word, "{hosts}", std::to_string(hosts));
    replace_all(&word, "{address}", host_address(host));
    for (size_t peer = 0; peer < hosts; ++peer) {
      replace_all(&word, str_cat("{address:", peer, "}"), host_address(peer));
    }
  }
  return words;
}

int run(const RunOptions& options) {
  return Emulation(options).run();
}

}  // namespace longhaul::linkem

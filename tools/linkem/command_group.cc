#include "tools/linkem/command_group.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul::linkem {
namespace {

// On the channel: linkem sends one byte, kBegin or a signal's number; the first process answers
// with CommandEnds. Either side's end closes it.
constexpr uint8_t kBegin = 0;
constexpr int kExitNotStarted = 127;

void complain(const std::string& what) {
  const std::string line = str_cat("linkem: ", what, ": ", std::strerror(errno), "\n");
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

// --- In the command's own process, between fork and exec ----------------------------------------

void use_as(int fd, int standard) {
  if (fd >= 0) ::dup2(fd, standard);
}

[[noreturn]] void become(const Command& command) {
  use_as(command.input, STDIN_FILENO);
  use_as(command.output, STDOUT_FILENO);
  use_as(command.errors, STDERR_FILENO);
  if (::setns(command.net_namespace, CLONE_NEWNET) != 0) {
    complain("cannot enter the host's network");
    ::_exit(kExitNotStarted);
  }
  for (const std::string& variable : command.environment) {
    const size_t equals = variable.find('=');
    ::setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 1);
  }
  std::vector<char*> words;
  words.reserve(command.words.size() + 1);
  for (const std::string& word : command.words) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execvp(words[0], words.data());
  complain(str_cat("cannot start '", command.words[0], "'"));
  ::_exit(kExitNotStarted);
}

// --- The namespace's first process --------------------------------------------------------------

class FirstProcess {
 public:
  FirstProcess(UniqueFd channel, const std::vector<Command>& commands)
      : channel_(std::move(channel)), commands_(commands) {}

  [[noreturn]] void run() {
    // The channel tells us when linkem is gone; this does too if we should ever be busy.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::prctl(PR_SET_NAME, "linkem-first");
    if (!mount_proc()) ::_exit(kExitNotStarted);
    sigset_t all;
    sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    children_.reset(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
    serve();
  }

 private:
  // A /proc that shows the processes of the namespace, seen by them alone.
  static bool mount_proc() {
    if (::unshare(CLONE_NEWNS) == 0 &&
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
        ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0) {
      return true;
    }
    complain("cannot mount /proc for the commands");
    return false;
  }

  [[noreturn]] void serve() {
    std::array<pollfd, 2> watched{{{channel_.get(), POLLIN, 0}, {children_.get(), POLLIN, 0}}};
    while (!begun_ || !running_.empty()) {
      if (::poll(watched.data(), watched.size(), -1) < 0) continue;
      if (watched[0].revents != 0) obey();
      if (watched[1].revents != 0) reap();
    }
    ::_exit(0);
  }

  void obey() {
    uint8_t order = 0;
    if (::recv(channel_.get(), &order, 1, 0) != 1) ::_exit(0);  // linkem is gone
    if (order == kBegin) {
      begin();
    } else {
      ::kill(-1, order);
    }
  }

  void begin() {
    begun_ = true;
    for (const Command& command : commands_) {
      const pid_t pid = ::fork();
      if (pid == 0) become(command);
      if (pid > 0) {
        running_[pid] = command.host;
      } else {
        complain("fork");
        tell({command.host, kExitNotStarted});
      }
    }
  }

  void reap() {
    std::array<signalfd_siginfo, 16> ignored;
    while (::read(children_.get(), ignored.data(), sizeof ignored) > 0) {
    }
    int status = 0;
    for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0;
         pid = ::waitpid(-1, &status, WNOHANG)) {
      const auto command = running_.find(pid);
      if (command == running_.end()) continue;  // a child that lost its parent
      tell({command->second, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)});
      running_.erase(command);
    }
  }

  void tell(const CommandEnd& end) { ::send(channel_.get(), &end, sizeof end, MSG_NOSIGNAL); }

  const UniqueFd channel_;
  const std::vector<Command>& commands_;
  UniqueFd children_;
  bool begun_ = false;
  std::map<pid_t, size_t> running_;
};

// The next fork()'s child is the first of a new PID namespace, and only that one: a process whose
// children live elsewhere could start no threads.
Result<pid_t> fork_into_pid_namespace() {
  const UniqueFd home(::open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC));
  if (!home.valid() || ::unshare(CLONE_NEWPID) != 0) {
    return Failure{ErrorKind::kUnavailable,
                   str_cat("root is needed: cannot make a PID namespace: ", std::strerror(errno))};
  }
  const pid_t pid = ::fork();
  const int error = errno;
  if (pid == 0) return pid;
  ::setns(home.get(), CLONE_NEWPID);
  if (pid < 0) return Failure{ErrorKind::kInternal, str_cat("fork: ", std::strerror(error))};
  return pid;
}

}  // namespace

Result<CommandGroup> CommandGroup::start(const std::vector<Command>& commands) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return Failure{ErrorKind::kInternal, str_cat("socketpair: ", std::strerror(errno))};
  }
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  const Result<pid_t> first = fork_into_pid_namespace();
  if (!first) return first.failure();
  if (*first == 0) {
    ours.reset();
    FirstProcess(std::move(theirs), commands).run();
  }
  return CommandGroup(std::move(ours), *first);
}

CommandGroup::~CommandGroup() {
  if (!channel_.valid() || first_ <= 0) return;
  kill();
  ::waitpid(first_, nullptr, 0);
}

void CommandGroup::begin() {
  ::send(channel_.get(), &kBegin, 1, MSG_NOSIGNAL);
}

void CommandGroup::signal(int signal) {
  const auto order = static_cast<uint8_t>(signal);
  ::send(channel_.get(), &order, 1, MSG_NOSIGNAL);
}

void CommandGroup::kill() {
  if (first_ > 0) ::kill(first_, SIGKILL);
}

std::optional<CommandEnd> CommandGroup::take_end() {
  CommandEnd end;
  if (::recv(channel_.get(), &end, sizeof end, 0) == sizeof end) return end;
  // Its last process is the first one; when that can be waited for, the namespace is empty.
  if (first_ > 0) ::waitpid(first_, nullptr, 0);
  first_ = -1;
  return std::nullopt;
}

}  // namespace longhaul::linkem

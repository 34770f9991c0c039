#include "control/worker/rank_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "longhaul/base/check.h"
#include "longhaul/base/strings.h"
#include "longhaul/membership/job.h"

namespace longhaul {
namespace {

// How long a pipe may stay open after its shim was killed (and so could not end all writers).
constexpr milliseconds kOrphanDrainTime{1'000};
// More than a pipe can hold, fewer than a writer that goes on could keep us at.
constexpr int kDrainReads = 64;

Failure spawn_failure(std::string_view what, int error_number) {
  return {ErrorKind::kUnavailable, str_cat(what, ": ", ::strerror(error_number))};
}

// Out of the way of 0..3, where the shim's own descriptors go.
UniqueFd lift(int fd) {
  const UniqueFd low(fd);
  return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 10));
}

// The ends that stay here do not block; those of the rank do, as programs expect.
struct PipePair {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<PipePair> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return spawn_failure("pipe", errno);
  PipePair pair{UniqueFd(ends[0]), lift(ends[1])};
  ::fcntl(pair.read_end.get(), F_SETFL, O_NONBLOCK);
  if (!pair.write_end.valid()) return spawn_failure("pipe", errno);
  return pair;
}

std::vector<char*> to_c_array(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

int pidfd_open(pid_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

bool has_mark(const std::filesystem::path& process, const std::string& mark) {
  std::ifstream file(process / "environ", std::ios::binary);
  const std::string environment{std::istreambuf_iterator<char>(file), {}};
  const size_t at = environment.find(mark + '\0');
  return at != std::string::npos && (at == 0 || environment[at - 1] == '\0');
}

// Returns how many it killed. A pidfd taken before the look keeps a reused pid safe.
int kill_marked_once(const std::string& mark) {
  int killed = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const pid_t pid = static_cast<pid_t>(std::atoi(entry.path().filename().c_str()));
    if (pid <= 1 || pid == ::getpid()) continue;
    const UniqueFd fd(pidfd_open(pid));
    if (!fd.valid() || !has_mark(entry.path(), mark)) continue;
    if (::syscall(SYS_pidfd_send_signal, fd.get(), SIGKILL, nullptr, 0) == 0) ++killed;
  }
  return killed;
}

std::string describe_launch_error(const ShimReport& report, const std::string& program,
                                  const std::string& directory) {
  const char* reason = ::strerror(report.error_number);
  switch (report.step) {
    case ShimStep::kFork:
      return str_cat("no process for ", program, ": ", reason);
    case ShimStep::kChangeDirectory:
      return str_cat("working directory ", directory, ": ", reason);
    default:
      break;
  }
  // The file was found before: what is missing is what would run it.
  if (report.error_number == ENOENT && std::filesystem::exists(program)) {
    return str_cat(program, ": its interpreter (first line, or ELF loader) is not there");
  }
  if (report.error_number == ENOEXEC) return str_cat(program, ": not a program (no ELF, no #!)");
  return str_cat(program, ": ", reason);
}

}  // namespace

RankProcess::RankProcess(EventLoop& loop, Listener listener)
    : loop_(loop), listener_(std::move(listener)) {}

RankProcess::~RankProcess() {
  shim_gone_ = false;  // nobody is told any more
  if (shim_fd_.valid()) finish();
}

Result<void> RankProcess::start(const std::string& shim, const RankCommand& command) {
  LONGHAUL_CHECK(!command.argv.empty());
  program_ = command.program;
  directory_ = command.directory;
  mark_ = command.mark;
  Result<PipePair> out = make_pipe();
  if (!out) return out.failure();
  Result<PipePair> err = make_pipe();
  if (!err) return err.failure();
  int control[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0) {
    return spawn_failure("socketpair", errno);
  }
  control_.reset(control[0]);
  const UniqueFd shim_end = lift(control[1]);
  Result<void> spawned =
      spawn(shim, command, shim_end.get(), out->write_end.get(), err->write_end.get());
  if (!spawned) return spawned;
  stdout_.fd = std::move(out->read_end);
  stderr_.fd = std::move(err->read_end);
  shim_fd_.reset(pidfd_open(shim_pid_));
  if (!shim_fd_.valid()) return spawn_failure("pidfd_open", errno);
  loop_.watch(control_.get(), [this] { read_reports(); });
  loop_.watch(shim_fd_.get(), [this] { shim_ended(); });
  for (Pipe* pipe : {&stdout_, &stderr_}) {
    loop_.watch(pipe->fd.get(), [this, pipe] { read_output(*pipe); });
  }
  return {};
}

Result<void> RankProcess::spawn(const std::string& shim, const RankCommand& command, int control,
                                int stdout_end, int stderr_end) {
  std::vector<std::string> argv = {shim, command.program, command.directory};
  argv.insert(argv.end(), command.argv.begin(), command.argv.end());

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, stdout_end, 1);
  ::posix_spawn_file_actions_adddup2(&actions, stderr_end, 2);
  ::posix_spawn_file_actions_adddup2(&actions, control, kShimControlFd);
  // The shim reads SIGCHLD and SIGTERM from a descriptor, so they must not be ignored in it.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t all;
  ::sigfillset(&all);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);

  const int error = ::posix_spawn(&shim_pid_, shim.c_str(), &actions, &attributes,
                                  to_c_array(argv).data(), to_c_array(command.env).data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return spawn_failure(shim, error);
  return {};
}

void RankProcess::send(ShimCommand command) {
  if (!control_.valid()) return;
  commanded_ = true;
  const char byte = static_cast<char>(command);
  // A shim that is gone shows at its pidfd.
  (void)!::send(control_.get(), &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void RankProcess::read_reports() {
  for (;;) {
    ShimReport report;
    const ssize_t size = ::recv(control_.get(), &report, sizeof(report), MSG_DONTWAIT);
    if (size == 0) loop_.unwatch(control_.get());
    if (size != sizeof(report)) return;
    if (report.kind == ShimReportKind::kStarted) {
      rank_pid_ = report.pid;
      listener_.started(rank_pid_);
    } else {
      farewell_ = report;
      has_farewell_ = true;
    }
  }
}

bool RankProcess::read_output(Pipe& pipe) {
  std::array<char, 64 << 10> buffer;
  const ssize_t size = ::read(pipe.fd.get(), buffer.data(), buffer.size());
  if (size > 0) {
    listener_.output(pipe.stream, std::string_view(buffer.data(), static_cast<size_t>(size)));
    return true;
  }
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  close_pipe(pipe);
  if (shim_gone_ && !stdout_.fd.valid() && !stderr_.fd.valid()) finish();
  return false;
}

void RankProcess::close_pipe(Pipe& pipe) {
  if (!pipe.fd.valid()) return;
  loop_.unwatch(pipe.fd.get());
  pipe.fd.reset();
}

void RankProcess::shim_ended() {
  loop_.unwatch(shim_fd_.get());
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(shim_pid_), &info, WEXITED);
  read_reports();
  // A shim that said farewell has ended everybody who could write; all they wrote is in the pipes.
  if (!has_farewell_) kill_marked_processes(mark_);
  for (Pipe* pipe : {&stdout_, &stderr_}) {
    for (int i = 0; i < kDrainReads && pipe->fd.valid() && read_output(*pipe); ++i) {
    }
  }
  shim_gone_ = true;
  if (has_farewell_ || (!stdout_.fd.valid() && !stderr_.fd.valid())) {
    finish();
  } else {
    drain_timer_ = loop_.after(kOrphanDrainTime, [this] { finish(); });
  }
}

void RankProcess::finish() {
  close_pipe(stdout_);
  close_pipe(stderr_);
  loop_.unwatch(control_.get());
  loop_.unwatch(shim_fd_.get());
  control_.reset();
  shim_fd_.reset();
  if (drain_timer_ != 0) loop_.cancel(drain_timer_);
  if (shim_gone_) listener_.ended(describe_end());
}

RankEnd RankProcess::describe_end() const {
  RankEnd end;
  if (!has_farewell_) {
    // Somebody killed the shim; the kernel has killed the rank with it.
    end.signal = SIGKILL;
    end.exit_code = 128 + SIGKILL;
    end.stopped_by_us = commanded_;
    return end;
  }
  if (farewell_.kind == ShimReportKind::kNotStarted) {
    end.launch_error = describe_launch_error(farewell_, program_, directory_);
    end.exit_code = kCannotStartCode;
    return end;
  }
  end.stopped_by_us = farewell_.stopped_by_command;
  if (farewell_.process_state != 0) end.process_state = std::string(1, farewell_.process_state);
  if (WIFSIGNALED(farewell_.wait_status)) {
    end.signal = WTERMSIG(farewell_.wait_status);
    end.exit_code = 128 + end.signal;
  } else {
    end.exit_code = WEXITSTATUS(farewell_.wait_status);
  }
  return end;
}

void kill_marked_processes(const std::string& mark) {
  // A process may fork while it is being looked for; a bounded number of rounds ends all but a
  // bomb.
  for (int round = 0; round < 50 && kill_marked_once(mark) != 0; ++round) {
  }
}

}  // namespace longhaul

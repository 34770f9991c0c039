#include "control/worker/process/managed_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "cluster/jobs/job.h"
#include "control/worker/process/marked_processes.h"
#include "control/worker/process/program_check.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// How long a shim that takes no connection may take to end by itself.
constexpr milliseconds kDeafShimPatience{1'000};
constexpr milliseconds kLookAgain{200};

Failure spawn_failure(std::string_view what, int error_number) {
  return {is_passing(error_number) ? ErrorKind::kExhausted : ErrorKind::kUnavailable,
          str_cat(what, ": ", ::strerror(error_number))};
}

// A copy above the numbers that posix_spawn gives the shim (0 to 4): a source among those might be
// overwritten before it is copied.
UniqueFd lift(int fd) {
  return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 10));
}

std::vector<char*> to_c_array(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

std::string describe_launch_error(const ProcessLedger& ledger, const std::string& program,
                                  const std::string& directory) {
  const char* reason = ::strerror(ledger.error_number);
  switch (ledger.failed_step) {
    case ShimStep::kFork:
      return str_cat("no process for ", program, ": ", reason);
    case ShimStep::kChangeDirectory:
      return str_cat("working directory ", directory, ": ", reason);
    default:
      break;
  }
  // find_program() has found the file, and it is still there: what is missing is what would run it.
  if (ledger.error_number == ENOENT && std::filesystem::exists(program)) {
    return str_cat(program, ": its interpreter (first line, or ELF loader) is not there");
  }
  if (ledger.error_number == ENOEXEC) return str_cat(program, ": not a program (no ELF, no #!)");
  return str_cat(program, ": ", reason);
}

ProcessEnd not_started(const std::string& why, int error_number = 0) {
  ProcessEnd end;
  end.launch_error = why;
  const bool is_there = error_number == EACCES || error_number == ENOEXEC;
  end.exit_code = is_there ? kNotExecutableCode : kCannotStartCode;
  end.no_room_now = is_passing(error_number);
  if (end.no_room_now) end.exit_code = kNoRoomCode;
  return end;
}

}  // namespace

ManagedProcess::ManagedProcess(EventLoop& loop, const ProcessFolder& folder, Listener listener)
    : loop_(loop), folder_(folder), listener_(std::move(listener)) {}

ManagedProcess::~ManagedProcess() {
  // Told to kill, the shim ends its rank and then itself; nobody here waits for that.
  loop_.cancel(patience_);
  if (!shim_fd_.valid()) return;
  send(ShimCommand::kKill);
  loop_.unwatch(shim_fd_.get());
  if (control_.valid()) loop_.unwatch(control_.get());
}

Result<void> ManagedProcess::start(const ShimOptions& shim, const ProcessCommand& command) {
  LONGHAUL_CHECK(!command.argv.empty());
  // Before the spawn: the shim reads its orders as soon as it runs.
  folder_.set_orders(
      {shim.linger.count(), shim.grace.count(), shim.descriptor_limit, shim.terminal, shim.input});
  kill_patience_ = shim.kill_patience;
  program_ = command.program;
  directory_ = command.directory;
  int control[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0) {
    return spawn_failure("socketpair", errno);
  }
  control_.reset(control[0]);
  const UniqueFd low_end(control[1]);
  const UniqueFd shim_end = lift(low_end.get());
  // A descriptor is set aside here and freed for the pidfd below. Were none left then, a shim would
  // run of whose end nobody would hear.
  UniqueFd room(::fcntl(low_end.get(), F_DUPFD_CLOEXEC, 0));
  if (!shim_end.valid() || !room.valid()) return spawn_failure("descriptors for its shim", errno);
  Result<void> spawned = spawn(shim, command, shim_end.get());
  if (!spawned) return spawned;
  room.reset();
  shim_fd_.reset(open_pidfd(shim_pid_));
  if (!shim_fd_.valid()) {
    const Failure why = spawn_failure("pidfd_open", errno);
    take_back();
    return why;
  }
  watch();
  return {};
}

// Ends a shim that has no pidfd, whose end nobody would hear of, and what it may have started. It
// is a child of this process and not reaped, so its pid is still its own.
void ManagedProcess::take_back() {
  ::kill(shim_pid_, SIGKILL);
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(shim_pid_), &info, WEXITED);
  kill_marked_processes(folder_.mark());
}

Result<void> ManagedProcess::spawn(const ShimOptions& shim, const ProcessCommand& command,
                                   int control) {
  std::vector<std::string> argv = {shim.program, std::to_string(shim.adopt_timeout.count()),
                                   std::to_string(shim.spool_bytes), command.program,
                                   command.directory};
  argv.insert(argv.end(), command.argv.begin(), command.argv.end());
  const UniqueFd folder = lift(folder_.fd());
  if (!folder.valid()) return spawn_failure("descriptors for its shim", errno);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  for (int fd = 0; fd <= 2; ++fd) {
    ::posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
  }
  ::posix_spawn_file_actions_adddup2(&actions, control, kShimControlFd);
  ::posix_spawn_file_actions_adddup2(&actions, folder.get(), kShimFolderFd);
  // Ignored signals stay ignored across an exec. The shim reads SIGCHLD and SIGTERM from a
  // signalfd, and with SIGCHLD ignored the kernel would throw away how its children ended.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t all;
  ::sigfillset(&all);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);

  const int error = ::posix_spawn(&shim_pid_, shim.program.c_str(), &actions, &attributes,
                                  to_c_array(argv).data(), to_c_array(command.env).data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return spawn_failure(shim.program, error);
  return {};
}

void ManagedProcess::adopt(const std::string& program, const std::string& directory) {
  program_ = program;
  directory_ = directory;
  find_predecessors_shim();
}

void ManagedProcess::find_predecessors_shim() {
  Result<UniqueFd> shim = folder_.find_shim();
  if (!shim) {
    log(LogLevel::kWarning, "worker", shim.failure().message, "; looking again");
    patience_ = loop_.after(kLookAgain, [this] { find_predecessors_shim(); });
    return;
  }
  shim_fd_ = std::move(*shim);
  if (shim_fd_.valid()) {
    Result<UniqueFd> control = folder_.connect();
    if (control) control_ = std::move(*control);
    watch();
    // A shim that takes no connection is about to end, which its pidfd will show. One that does not
    // end cannot be told anything any more, and is killed.
    if (!control) patience_ = loop_.after(kDeafShimPatience, [this] { kill_shim(); });
  } else {
    // Later, because `ended` comes last: look() below tells first that the rank was started.
    patience_ = loop_.after(milliseconds(0), [this] { shim_ended(); });
  }
  look();
}

void ManagedProcess::watch() {
  loop_.watch(shim_fd_.get(), [this] { shim_ended(); });
  if (control_.valid()) loop_.watch(control_.get(), [this] { on_control(); });
}

void ManagedProcess::kill() {
  if (!shim_fd_.valid()) return;
  send(ShimCommand::kKill);
  // The shim's time runs from the first call; a later one does not prolong it.
  if (std::exchange(told_to_kill_, true)) return;
  loop_.cancel(patience_);
  patience_ = loop_.after(kill_patience_, [this] { kill_shim(); });
}

void ManagedProcess::send(ShimCommand command) {
  if (!shim_fd_.valid()) return;
  commanded_ = true;
  const char byte = static_cast<char>(command);
  // That the command could not be sent needs no error: a shim that is gone shows it at its pidfd.
  const bool sent =
      control_.valid() && ::send(control_.get(), &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
  // A kill must not fail: without the shim's help its rank dies with it, and the token finds the
  // rest.
  if (!sent && command == ShimCommand::kKill) kill_shim();
}

// It only says "look". One that is not taken is not missed: either the socket holds others, which
// say the same, or the shim is gone.
void ManagedProcess::input_given() {
  const char byte = static_cast<char>(ShimCommand::kInput);
  if (control_.valid()) (void)!::send(control_.get(), &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// The kernel kills the rank with it; shim_ended() ends the rest.
void ManagedProcess::kill_shim() {
  if (shim_fd_.valid()) {
    ::syscall(SYS_pidfd_send_signal, shim_fd_.get(), SIGKILL, nullptr, 0);
  }
}

void ManagedProcess::on_control() {
  char packet = 0;
  ssize_t size = 0;
  do {
    size = ::recv(control_.get(), &packet, 1, MSG_DONTWAIT);
  } while (size > 0);
  // The socket's end does not mean the shim's: that is told by the pidfd. It is watched no more,
  // because it would stay readable for ever.
  if (size == 0) loop_.unwatch(control_.get());
  look();
}

void ManagedProcess::refresh() {
  if (folder_.refresh() || std::exchange(ledger_is_lost_, true)) return;
  log(LogLevel::kWarning, "worker", folder_.path(), "/", ProcessLedger::kFileName,
      ": cut short or overwritten by something on this host; how its rank fares is not known");
}

void ManagedProcess::look() {
  refresh();
  const RankPhase phase = folder_.ledger().phase;
  const bool has_run =
      phase == RankPhase::kStarted || phase == RankPhase::kLingering || phase == RankPhase::kEnded;
  // In the order in which it happened, however late this looks: started, lingers, and at last
  // ended.
  if (has_run && !std::exchange(told_started_, true)) {
    listener_.started(folder_.ledger().rank_pid);
  }
  if (phase == RankPhase::kLingering && !std::exchange(told_lingers_, true)) {
    if (listener_.lingers) listener_.lingers(describe_exit());
  }
  listener_.output();
}

void ManagedProcess::shim_ended() {
  loop_.cancel(patience_);
  if (shim_pid_ > 0) {
    // Only a shim of our own is our child; one that was taken over is reaped by others.
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(shim_pid_), &info, WEXITED);
  }
  // A shim that has written its farewell has ended all processes; one that was killed could not.
  refresh();
  if (!folder_.ledger().has_farewell()) kill_marked_processes(folder_.mark());
  if (control_.valid()) loop_.unwatch(control_.get());
  if (shim_fd_.valid()) loop_.unwatch(shim_fd_.get());
  control_.reset();
  shim_fd_.reset();
  look();
  listener_.ended(describe_end());
}

ProcessEnd ManagedProcess::describe_end() const {
  const ProcessLedger& ledger = folder_.ledger();
  ProcessEnd end;
  switch (ledger.phase) {
    case RankPhase::kCreated:
      // Nothing of the rank has run, so it may simply be started again: EAGAIN says so.
      return not_started(str_cat(program_,
                                 ": its shim was killed, or could not open its ledger, "
                                 "before it could start it"),
                         EAGAIN);
    case RankPhase::kNotStarted:
      return not_started(describe_launch_error(ledger, program_, directory_), ledger.error_number);
    case RankPhase::kShim:
    case RankPhase::kStarted:
    case RankPhase::kLingering:
      // Somebody killed the shim; the kernel has killed the rank with it.
      end.signal = SIGKILL;
      end.exit_code = 128 + SIGKILL;
      end.stopped_by_us = commanded_;
      return end;
    case RankPhase::kEnded:
      break;
  }
  return describe_exit();
}

ProcessEnd ManagedProcess::describe_exit() const {
  const ProcessLedger& ledger = folder_.ledger();
  ProcessEnd end;
  end.ended_too.assign(ledger.ended_too, ::strnlen(ledger.ended_too, sizeof(ledger.ended_too)));
  end.stopped_by_us = ledger.stopped_by_command;
  if (ledger.process_state != 0) end.process_state = std::string(1, ledger.process_state);
  if (WIFSIGNALED(ledger.wait_status)) {
    end.signal = WTERMSIG(ledger.wait_status);
    end.exit_code = 128 + end.signal;
  } else {
    end.exit_code = WEXITSTATUS(ledger.wait_status);
  }
  return end;
}

}  // namespace longhaul

// longhaul-shim: stands between the worker and one rank, so that nothing is left behind whoever
// dies. It is small, static and single-threaded on purpose: it starts in a millisecond and has
// nothing that could fail. Protocol and arguments: control/worker/shim_protocol.h.
//
// - It is the subreaper of all that the rank starts: a grandchild that daemonizes becomes its
// child.
// - When the rank ends, when the worker says so or when the worker is gone (its socket closes, also
// by
//   kill -9), it kills every descendant that is left.
// - When the shim itself is killed, the kernel kills the rank (PR_SET_PDEATHSIG).

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <initializer_list>

#include "control/worker/shim_protocol.h"

namespace longhaul {
namespace {

// A process that SIGKILL does not end within this time sits in the kernel; waiting longer helps
// nobody.
constexpr int kKillPatienceMs = 10'000;
constexpr int kKillRoundMs = 5;

struct LaunchError {
  ShimStep step;
  int error_number;
};

struct Shim {
  pid_t rank = -1;
  bool rank_ended = false;
  bool worker_gone = false;
  ShimReport farewell{};
};

void send_report(const ShimReport& report) {
  // The worker may be gone; then nobody needs to know.
  (void)!::send(kShimControlFd, &report, sizeof(report), MSG_NOSIGNAL);
}

// Fields 3 (state) and 4 (parent) of /proc/PID/stat. The name before them may hold anything, so
// they are looked for after its last parenthesis.
bool read_stat(pid_t pid, char* state, pid_t* parent) {
  char path[32];
  (void)::snprintf(path, sizeof(path), "/proc/%d/stat", pid);
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char text[512];
  const ssize_t size = ::read(fd, text, sizeof(text) - 1);
  ::close(fd);
  if (size <= 0) return false;
  text[size] = '\0';
  const char* after_name = ::strrchr(text, ')');
  return after_name != nullptr && ::sscanf(after_name + 1, " %c %d", state, parent) == 2;
}

void kill_children() {
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return;
  const pid_t self = ::getpid();
  while (const dirent* entry = ::readdir(proc)) {
    const pid_t pid = static_cast<pid_t>(::strtol(entry->d_name, nullptr, 10));
    char state = 0;
    pid_t parent = 0;
    if (pid > 1 && read_stat(pid, &state, &parent) && parent == self) ::kill(pid, SIGKILL);
  }
  ::closedir(proc);
}

// Reaps whoever has ended, adopted descendants too. Returns false when no child is left.
bool reap(Shim& shim) {
  for (;;) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid == 0) return true;
    if (pid < 0) return errno == EINTR;
    if (pid != shim.rank) continue;
    shim.rank_ended = true;
    shim.farewell.wait_status = status;
  }
}

// The children of a killed process become ours, so round after round the whole tree goes.
void kill_everything(Shim& shim) {
  for (int waited = 0; waited < kKillPatienceMs && reap(shim); waited += kKillRoundMs) {
    kill_children();
    if (!reap(shim)) return;
    const timespec round{0, kKillRoundMs * 1'000'000L};
    ::nanosleep(&round, nullptr);
  }
}

void note_command(Shim& shim) {
  if (shim.farewell.stopped_by_command) return;
  shim.farewell.stopped_by_command = true;
  pid_t parent = 0;
  (void)read_stat(shim.rank, &shim.farewell.process_state, &parent);
}

// To the rank's group, and to the rank itself should it have left its group. A stopped process
// takes a signal only once it goes on.
void pass_on(const Shim& shim, int signal_number) {
  ::kill(-shim.rank, signal_number);
  if (::getpgid(shim.rank) != shim.rank) ::kill(shim.rank, signal_number);
  ::kill(-shim.rank, SIGCONT);
}

void handle_command(Shim& shim) {
  char command = 0;
  const ssize_t size = ::recv(kShimControlFd, &command, 1, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size <= 0) {
    shim.worker_gone = true;
    return;
  }
  // A rank that had ended by itself before the command came was not stopped by it.
  reap(shim);
  if (shim.rank_ended) return;
  note_command(shim);
  if (command == static_cast<char>(ShimCommand::kTerminate)) pass_on(shim, SIGTERM);
  if (command == static_cast<char>(ShimCommand::kKill)) kill_everything(shim);
}

void handle_signal(Shim& shim, int signals) {
  signalfd_siginfo info{};
  if (::read(signals, &info, sizeof(info)) != sizeof(info)) return;
  if (info.ssi_signo == SIGCHLD) {
    reap(shim);
  } else {
    pass_on(shim, static_cast<int>(info.ssi_signo));
  }
}

// Runs in the child, between fork and exec.
[[noreturn]] void become_rank(pid_t shim_pid, int error_pipe, const char* program,
                              const char* directory, char** argv) {
  for (int signal_number = 1; signal_number < NSIG; ++signal_number) {
    (void)::signal(signal_number, SIG_DFL);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != shim_pid) ::_exit(127);
  LaunchError error{ShimStep::kChangeDirectory, 0};
  if (directory[0] == '\0' || ::chdir(directory) == 0) {
    error.step = ShimStep::kExecute;
    ::execv(program, argv);
  }
  error.error_number = errno;
  (void)!::write(error_pipe, &error, sizeof(error));
  ::_exit(127);
}

// Returns the error when the rank could not be started.
LaunchError start_rank(Shim& shim, const char* program, const char* directory, char** argv) {
  int error_pipe[2];
  if (::pipe2(error_pipe, O_CLOEXEC) != 0) return {ShimStep::kFork, errno};
  const pid_t shim_pid = ::getpid();
  shim.rank = ::fork();
  if (shim.rank < 0) return {ShimStep::kFork, errno};
  if (shim.rank == 0) become_rank(shim_pid, error_pipe[1], program, directory, argv);
  ::close(error_pipe[1]);
  LaunchError error{ShimStep::kNone, 0};
  // exec closes the pipe: nothing to read means that the program runs.
  if (::read(error_pipe[0], &error, sizeof(error)) != sizeof(error)) error.step = ShimStep::kNone;
  ::close(error_pipe[0]);
  return error;
}

int block_signals() {
  sigset_t handled;
  ::sigemptyset(&handled);
  for (const int signal_number : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) {
    ::sigaddset(&handled, signal_number);
  }
  ::sigprocmask(SIG_SETMASK, &handled, nullptr);
  return ::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
}

void release_output() {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd <= 2; ++fd) ::dup2(null, fd);
  ::close(null);
}

void watch(Shim& shim, int signals) {
  pollfd fds[2] = {{signals, POLLIN, 0}, {kShimControlFd, POLLIN, 0}};
  reap(shim);
  while (!shim.rank_ended && !shim.worker_gone) {
    if (::poll(fds, 2, -1) < 0) continue;
    if (fds[0].revents != 0) handle_signal(shim, signals);
    if (!shim.rank_ended && fds[1].revents != 0) handle_command(shim);
  }
}

int run(int argc, char** argv) {
  if (argc < 4) {
    (void)::fprintf(stderr, "longhaul-shim is started by longhaul-worker, one per rank.\n");
    return 64;
  }
  ::prctl(PR_SET_NAME, "longhaul-shim");
  // Out of the worker's session: Ctrl-C at the worker's terminal is the worker's to pass on.
  ::setsid();
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::fcntl(kShimControlFd, F_SETFD, FD_CLOEXEC);
  ::close_range(kShimControlFd + 1, ~0U, 0);
  const int signals = block_signals();

  Shim shim;
  const LaunchError error = start_rank(shim, argv[1], argv[2], argv + 3);
  release_output();
  shim.farewell.pid = shim.rank;
  if (error.step != ShimStep::kNone) {
    shim.farewell.kind = ShimReportKind::kNotStarted;
    shim.farewell.step = error.step;
    shim.farewell.error_number = error.error_number;
  } else {
    shim.farewell.kind = ShimReportKind::kEnded;
    send_report({ShimReportKind::kStarted, ShimStep::kNone, 0, shim.rank, 0, false, 0});
    watch(shim, signals);
  }
  kill_everything(shim);
  send_report(shim.farewell);
  return 0;
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) {
  return longhaul::run(argc, argv);
}

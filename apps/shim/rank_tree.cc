#include "apps/shim/rank_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <optional>

#include "control/worker/proc_stat.h"

namespace longhaul {
namespace {

constexpr int kKillPatienceMs = 10'000;
constexpr int kKillRoundMs = 5;

// Runs in the child, between fork and exec.
[[noreturn]] void become_rank(pid_t shim_pid, int error_pipe, const char* program,
                              const char* directory, char** argv, int out, int err) {
  for (int signal_number = 1; signal_number < NSIG; ++signal_number) {
    (void)::signal(signal_number, SIG_DFL);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != shim_pid) ::_exit(127);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  RankTree::StartError error{ShimStep::kChangeDirectory, 0};
  if (directory[0] == '\0' || ::chdir(directory) == 0) {
    error.step = ShimStep::kExecute;
    ::execv(program, argv);
  }
  error.error_number = errno;
  (void)!::write(error_pipe, &error, sizeof(error));
  ::_exit(127);
}

void kill_children() {
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return;
  const pid_t self = ::getpid();
  while (const dirent* entry = ::readdir(proc)) {
    const pid_t pid = static_cast<pid_t>(::strtol(entry->d_name, nullptr, 10));
    if (pid <= 1) continue;
    const std::optional<ProcStat> stat = read_proc_stat(pid);
    if (stat && stat->parent == self) ::kill(pid, SIGKILL);
  }
  ::closedir(proc);
}

}  // namespace

RankTree::RankTree() {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
}

RankTree::StartError RankTree::start(const char* program, const char* directory, char** argv,
                                     int out, int err) {
  int error_pipe[2];
  if (::pipe2(error_pipe, O_CLOEXEC) != 0) return {ShimStep::kFork, errno};
  const pid_t shim_pid = ::getpid();
  rank_ = ::fork();
  if (rank_ < 0) return {ShimStep::kFork, errno};
  if (rank_ == 0) become_rank(shim_pid, error_pipe[1], program, directory, argv, out, err);
  ::close(error_pipe[1]);
  StartError error;
  // exec closes the pipe: nothing to read means that the program runs.
  if (::read(error_pipe[0], &error, sizeof(error)) != sizeof(error)) error.step = ShimStep::kNone;
  ::close(error_pipe[0]);
  return error;
}

bool RankTree::reap() {
  for (;;) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid == 0) return true;
    if (pid < 0) return errno == EINTR;
    if (pid != rank_) continue;
    rank_ended_ = true;
    wait_status_ = status;
  }
}

// A stopped process takes a signal only once it goes on.
void RankTree::signal(int signal_number) const {
  ::kill(-rank_, signal_number);
  if (::getpgid(rank_) != rank_) ::kill(rank_, signal_number);
  ::kill(-rank_, SIGCONT);
}

// The children of a killed process become ours, so round after round the whole tree goes.
void RankTree::kill_everything() {
  for (int waited = 0; waited < kKillPatienceMs && reap(); waited += kKillRoundMs) {
    kill_children();
    if (!reap()) return;
    const timespec round{0, kKillRoundMs * 1'000'000L};
    ::nanosleep(&round, nullptr);
  }
}

}  // namespace longhaul

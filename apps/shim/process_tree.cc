#include "apps/shim/process_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>

#include "control/worker/process/proc_stat.h"

namespace longhaul {
namespace {

// SIGKILL ends a process within milliseconds unless it hangs in the kernel, and then nobody can
// wait for it.
constexpr int kKillPatienceMs = 10'000;
constexpr int kKillRoundMs = 5;

// Runs in the child, between fork and exec.
[[noreturn]] void become_rank(pid_t shim_pid, int error_pipe, const ProcessTree::Program& program) {
  // What is ignored or blocked stays so across exec, and the shim ignores and blocks some. It fails
  // for SIGKILL and SIGSTOP, which cannot be changed.
  for (int signal_number = 1; signal_number < NSIG; ++signal_number) {
    (void)::signal(signal_number, SIG_DFL);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // A session and process group of its own, so that one kill() reaches the rank and what it has
  // started. When the shim dies the kernel kills the rank: nobody else reads its output or learns
  // of its end.
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The shim may have died before prctl(), and then no signal would come.
  if (::getppid() != shim_pid) ::_exit(127);
  if (program.in >= 0) ::dup2(program.in, STDIN_FILENO);
  ::dup2(program.out, STDOUT_FILENO);
  ::dup2(program.err, STDERR_FILENO);
  // A job gets the limit that the worker was started with: the worker has raised its own, and some
  // programs look at every descriptor below the limit.
  rlimit descriptors{};
  if (program.descriptor_limit > 0 && ::getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
    descriptors.rlim_cur = std::min<rlim_t>(program.descriptor_limit, descriptors.rlim_max);
    ::setrlimit(RLIMIT_NOFILE, &descriptors);
  }
  ProcessTree::StartError error{ShimStep::kChangeDirectory, 0};
  if (program.directory[0] == '\0' || ::chdir(program.directory) == 0) {
    error.step = ShimStep::kExecute;
    ::execv(program.path, program.argv);
  }
  error.error_number = errno;
  // A write this small into an empty pipe is all or nothing.
  (void)!::write(error_pipe, &error, sizeof(error));
  ::_exit(127);
}

struct Process {
  pid_t pid = 0;
  ProcStat stat;
};

// All that run on this host; none when that cannot be told.
std::vector<Process> running_processes() {
  std::vector<Process> processes;
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return processes;
  while (const dirent* entry = ::readdir(proc)) {
    const pid_t pid = static_cast<pid_t>(::strtol(entry->d_name, nullptr, 10));
    if (pid <= 1) continue;
    const std::optional<ProcStat> stat = read_proc_stat(pid);
    if (stat && stat->running()) processes.push_back({pid, *stat});
  }
  ::closedir(proc);
  return processes;
}

void kill_children(pid_t rank) {
  const std::vector<Process> processes = running_processes();
  // /proc cannot be read. The rank's process group is all that is known then.
  if (processes.empty() && rank > 0) ::kill(-rank, SIGKILL);
  // Only direct children: until this process reaps them their pids cannot belong to anybody else.
  // Their own children become ours when they are dead (kill_everything()).
  const pid_t self = ::getpid();
  for (const Process& process : processes) {
    if (process.stat.parent == self) ::kill(process.pid, SIGKILL);
  }
}

// The start of its command line.
std::string name_of(pid_t pid) {
  char path[32];
  (void)::snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
  char text[60];
  ssize_t size = -1;
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    size = ::read(fd, text, sizeof(text));
    ::close(fd);
  }
  if (size <= 0) return "a process";
  std::string name(text, static_cast<size_t>(size));
  while (!name.empty() && name.back() == '\0') name.pop_back();
  for (char& c : name) {
    if (c >= '\0' && c <= ' ') c = ' ';
  }
  return name;
}

}  // namespace

ProcessTree::ProcessTree() {
  // So that a process that daemonizes becomes a child of the shim instead of init's, and can be
  // found.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
}

ProcessTree::StartError ProcessTree::start(const Program& program) {
  int error_pipe[2];
  if (::pipe2(error_pipe, O_CLOEXEC) != 0) return {ShimStep::kFork, errno};
  const pid_t shim_pid = ::getpid();
  rank_ = ::fork();
  if (rank_ < 0) return {ShimStep::kFork, errno};
  if (rank_ == 0) become_rank(shim_pid, error_pipe[1], program);
  ::close(error_pipe[1]);
  StartError error;
  // A successful exec closes the pipe (O_CLOEXEC), so the end of the file means that the program
  // runs. The read also makes sure that the rank has its own session before anybody signals its
  // process group.
  if (::read(error_pipe[0], &error, sizeof(error)) != sizeof(error)) error.step = ShimStep::kNone;
  ::close(error_pipe[0]);
  return error;
}

bool ProcessTree::reap() {
  for (;;) {
    int status = 0;
    // -1: also descendants that were adopted, else they would stay as zombies.
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid == 0) return true;
    if (pid < 0) return errno == EINTR;
    if (pid != rank_) continue;
    rank_ended_ = true;
    wait_status_ = status;
  }
}

// To the rank's group, and to the rank itself should it have left the group. SIGCONT follows
// because a stopped process takes no other signal than SIGKILL until it goes on.
void ProcessTree::signal(int signal_number) const {
  ::kill(-rank_, signal_number);
  if (::getpgid(rank_) != rank_) ::kill(rank_, signal_number);
  ::kill(-rank_, SIGCONT);
}

// /proc is listed in any order, so the search is repeated until a pass finds no more children of
// members.
std::vector<ProcessTree::Member> ProcessTree::members() const {
  const std::vector<Process> processes = running_processes();
  std::set<pid_t> family = {::getpid()};
  for (size_t before = 0; family.size() != before;) {
    before = family.size();
    for (const Process& process : processes) {
      if (family.contains(process.stat.parent)) family.insert(process.pid);
    }
  }
  std::vector<Member> found;
  for (const Process& process : processes) {
    if (process.pid == ::getpid() || !family.contains(process.pid)) continue;
    found.push_back({process.pid, process.stat.group == rank_, name_of(process.pid)});
  }
  return found;
}

void ProcessTree::terminate(const std::vector<Member>& members) {
  for (const Member& member : members) {
    ::kill(member.pid, SIGTERM);
    ::kill(member.pid, SIGCONT);
  }
}

// The children of a killed process become ours, so round after round the whole tree goes.
void ProcessTree::kill_everything() {
  for (int waited = 0; waited < kKillPatienceMs && reap(); waited += kKillRoundMs) {
    kill_children(rank_);
    if (!reap()) return;
    const timespec round{0, kKillRoundMs * 1'000'000L};
    ::nanosleep(&round, nullptr);
  }
}

}  // namespace longhaul

#include "control/worker/process/marked_processes.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/unique_fd.h"

namespace longhaul {
namespace {

bool has_mark(const std::filesystem::path& process, const std::string& mark) {
  std::ifstream file(process / "environ", std::ios::binary);
  const std::string environment{std::istreambuf_iterator<char>(file), {}};
  const size_t at = environment.find(mark + '\0');
  return at != std::string::npos && (at == 0 || environment[at - 1] == '\0');
}

// Returns how many it killed. The pidfd is taken before the environment is read: should the pid be
// used again meanwhile, the signal still goes to the process that had it, which is gone, and to
// nobody else.
int kill_marked_once(const std::string& mark) {
  int killed = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const pid_t pid = static_cast<pid_t>(std::atoi(entry.path().filename().c_str()));
    if (pid <= 1 || pid == ::getpid()) continue;
    const UniqueFd fd(open_pidfd(pid));
    if (!fd.valid() || !has_mark(entry.path(), mark)) continue;
    if (::syscall(SYS_pidfd_send_signal, fd.get(), SIGKILL, nullptr, 0) == 0) ++killed;
  }
  return killed;
}

}  // namespace

int open_pidfd(pid_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

void kill_marked_processes(const std::string& mark) {
  // A process may fork while /proc is read, so this looks until nothing is found. A fork bomb may
  // outrun it, so the rounds are bounded.
  for (int round = 0; round < 50 && kill_marked_once(mark) != 0; ++round) {
  }
}

}  // namespace longhaul

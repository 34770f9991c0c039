#include "control/worker/process/proc_stat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cinttypes>

namespace longhaul {

// Fields 3 (state), 4 (parent), 5 (group) and 22 (start time). The name before them may hold
// anything, so they are looked for after its last parenthesis.
std::optional<ProcStat> read_proc_stat(pid_t pid) {
  char path[32];
  (void)::snprintf(path, sizeof(path), "/proc/%d/stat", pid);
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  char text[1024];
  const ssize_t size = ::read(fd, text, sizeof(text) - 1);
  const int error_number = size == 0 ? ESRCH : errno;
  ::close(fd);
  if (size <= 0) {
    errno = error_number;
    return std::nullopt;
  }
  text[size] = '\0';
  const char* after_name = ::strrchr(text, ')');
  errno = EINVAL;
  if (after_name == nullptr) return std::nullopt;
  ProcStat stat;
  const int found = ::sscanf(after_name + 1,
                             " %c %d %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                             "%*s %*s %" SCNu64,
                             &stat.state, &stat.parent, &stat.group, &stat.start_time);
  if (found != 4) return std::nullopt;
  return stat;
}

}  // namespace longhaul

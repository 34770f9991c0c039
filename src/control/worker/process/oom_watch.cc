#include "control/worker/process/oom_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <utility>
#include <vector>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

// Pids of processes that nobody asked about pile up, and pids are used again. So all are dropped
// when there are this many.
constexpr size_t kRemembered = 1000;
// The host's own pid namespace (PROC_PID_INIT_INO in linux/proc_ns.h). In another one the pids of
// the kernel's log are not those that this process sees.
constexpr const char* kHostsPids = "pid:[4026531836]";

// Of "7:memory:/jobs" (v1) or "0::/jobs" (v2): where the process's memory is counted.
struct MemoryCgroup {
  std::string path;  // below its hierarchy's root
  bool v1 = false;
  bool found = false;
};

MemoryCgroup own_cgroup(const std::string& proc) {
  MemoryCgroup cgroup;
  std::ifstream file(proc + "/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> parts = split(line, ':');
    if (parts.size() < 3) continue;
    const std::vector<std::string> controllers = split(parts[1], ',');
    const bool v1 =
        std::find(controllers.begin(), controllers.end(), "memory") != controllers.end();
    // A host may have both kinds. The memory controller is in one of them only, and a v1 line that
    // names it decides.
    if (!v1 && (!parts[1].empty() || cgroup.found)) continue;
    cgroup = {line.substr(parts[0].size() + parts[1].size() + 2), v1, true};
    if (v1) break;
  }
  return cgroup;
}

}  // namespace

OomWatch::OomWatch(const Places& places) {
  const MemoryCgroup cgroup = own_cgroup(places.proc);
  const std::string relative = cgroup.path == "/" ? "" : cgroup.path;
  const std::string file = cgroup.v1
                               ? str_cat(places.cgroups, "/memory", relative, "/memory.oom_control")
                               : str_cat(places.cgroups, relative, "/memory.events");
  std::error_code ignored;
  const bool counted = cgroup.found && fs::exists(file, ignored);
  counter_file_ = counted ? file : places.proc + "/vmstat";
  counter_name_ = counted ? "oom_kill of cgroup " + cgroup.path : "oom_kill of this host";
  before_ = latest_ = count();
  kernel_log_ =
      UniqueFd(::open(places.kernel_log.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  // What was killed before this worker started is not of its ranks.
  if (kernel_log_.valid()) ::lseek(kernel_log_.get(), 0, SEEK_END);
  std::error_code unknown;
  log_is_enough_ =
      kernel_log_.valid() && fs::read_symlink(places.proc + "/self/ns/pid", unknown) == kHostsPids;
}

void OomWatch::tick() {
  before_ = std::exchange(latest_, count());
}

uint64_t OomWatch::count() const {
  constexpr std::string_view kName = "oom_kill ";
  std::ifstream file(counter_file_);
  for (std::string line; std::getline(file, line);) {
    uint64_t number = 0;
    if (!line.starts_with(kName)) continue;
    std::from_chars(line.data() + kName.size(), line.data() + line.size(), number);
    return number;
  }
  return 0;
}

// Each read gives one record of the log.
void OomWatch::read_kernel_log() {
  constexpr std::string_view kMark = "Killed process ";
  std::array<char, 8192> record{};
  while (kernel_log_.valid()) {
    const ssize_t size = ::read(kernel_log_.get(), record.data(), record.size());
    if (size < 0 && (errno == EPIPE || errno == EINTR)) continue;  // older ones were overwritten
    if (size <= 0) return;
    std::string_view text(record.data(), static_cast<size_t>(size));
    for (size_t at = text.find(kMark); at != std::string_view::npos; at = text.find(kMark)) {
      text.remove_prefix(at + kMark.size());
      int64_t pid = 0;
      std::from_chars(text.data(), text.data() + text.size(), pid);
      if (killed_.size() >= kRemembered) killed_.clear();
      killed_.insert(pid);
    }
  }
}

std::string OomWatch::witness_of(int64_t pid) {
  read_kernel_log();
  const uint64_t now = count();
  const bool rose = now > before_;
  const bool named = killed_.erase(pid) > 0;
  // Where the log can be read and its pids are ours, a process that it does not name was not ended
  // for its memory, whatever a counter says of others.
  if (!named && (log_is_enough_ || !rose)) return "";
  // One step of the counter explains one dead process. `latest_` must not stay behind, or the next
  // tick() would give the step back.
  if (rose) latest_ = std::max(latest_, ++before_);
  if (named) {
    return str_cat("the kernel's log says that its out-of-memory killer ended process ", pid);
  }
  return str_cat(counter_name_, " rose to ", now, " while it died");
}

}  // namespace longhaul

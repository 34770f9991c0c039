#include "control/worker/host_facts.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <regex>

#include "longhaul/base/strings.h"
#include "longhaul/wire/socket.h"

namespace longhaul {

namespace fs = std::filesystem;

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

int usable_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (::sched_getaffinity(0, sizeof(cores), &cores) != 0) {
    return std::max(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
  }
  return std::max(1, CPU_COUNT(&cores));
}

int gpu_count() {
  static const std::regex device("nvidia[0-9]+");
  std::error_code ignored;
  int count = 0;
  for (const auto& entry : fs::directory_iterator("/dev", ignored)) {
    count += std::regex_match(entry.path().filename().string(), device) ? 1 : 0;
  }
  return count;
}

Result<int> free_port(const std::string& address) {
  Result<UniqueFd> listener = listen_tcp(address, 0);
  if (!listener) listener = listen_tcp("0.0.0.0", 0);
  if (!listener) return listener.failure();
  const Result<uint16_t> port = local_port(listener->get());
  if (!port) return port.failure();
  return static_cast<int>(*port);
}

Result<std::string> find_shim() {
  std::error_code ignored;
  const fs::path folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const fs::path beside = folder / "longhaul-shim";
  const fs::path libexec = folder.parent_path() / "libexec" / "longhaul-shim";
  for (const fs::path& path : {beside, libexec}) {
    if (::access(path.c_str(), X_OK) == 0) return path.string();
  }
  return Failure{ErrorKind::kInvalid, str_cat("longhaul-shim is missing: looked for ",
                                              beside.string(), " and ", libexec.string())};
}

}  // namespace longhaul

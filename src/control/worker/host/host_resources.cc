#include "control/worker/host/host_resources.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "control/worker/host/host_facts.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kKibibyte = 1024;

std::vector<std::string> numbers_below(int count) {
  std::vector<std::string> numbers;
  numbers.reserve(static_cast<size_t>(std::max(0, count)));
  for (int i = 0; i < count; ++i) numbers.push_back(std::to_string(i));
  return numbers;
}

// As CUDA reads it: what comes after something that is no device does not count.
std::vector<std::string> listed_gpus(const std::string& text) {
  std::vector<std::string> names;
  for (const std::string& name : split(text, ',')) {
    if (name.empty() || name.starts_with('-') || name == "NoDevFiles") break;
    names.push_back(name);
  }
  return names;
}

uint64_t total_memory(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  for (std::string word; file >> word;) {
    uint64_t kib = 0;
    if (word == "MemTotal:" && file >> kib) return kib * kKibibyte;
  }
  return 0;
}

// nullopt for v2's "max". v1 gives a huge number where there is no limit, which is above any host's
// memory and so limits nothing.
std::optional<uint64_t> limit_in(const fs::path& file) {
  std::ifstream stream(file);
  uint64_t bytes = 0;
  if (stream >> bytes) return bytes;
  return std::nullopt;
}

// The least limit of a group and those above it. A container may see its own group as the root, or
// the whole path of which only the end is mounted.
uint64_t least_limit(const fs::path& mount, fs::path group, const std::string& file,
                     uint64_t most) {
  for (;; group = group.parent_path()) {
    const fs::path folder = mount / group.relative_path();
    most = std::min(most, limit_in(folder / file).value_or(most));
    if (!group.has_relative_path()) return most;
  }
}

}  // namespace

std::vector<std::string> usable_gpus(const Environment& environment, int limit) {
  const auto listed = environment.find("CUDA_VISIBLE_DEVICES");
  std::vector<std::string> names =
      listed != environment.end() ? listed_gpus(listed->second) : numbers_below(gpu_count());
  if (limit < 0) return names;
  if (static_cast<size_t>(limit) > names.size()) return numbers_below(limit);
  names.resize(static_cast<size_t>(limit));
  return names;
}

uint64_t usable_memory(const std::string& root) {
  uint64_t bytes = total_memory(root);
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    // "0::/path" (v2), "5:memory:/path" (v1).
    const std::vector<std::string> parts = split(line, ':');
    if (parts.size() < 3) continue;
    const fs::path mount = root + "/sys/fs/cgroup";
    const std::vector<std::string> controllers = split(parts[1], ',');
    if (parts[1].empty()) {
      bytes = least_limit(mount, parts[2], "memory.max", bytes);
    } else if (std::count(controllers.begin(), controllers.end(), "memory") > 0) {
      bytes = least_limit(mount / "memory", parts[2], "memory.limit_in_bytes", bytes);
    }
  }
  return bytes;
}

std::string visible_gpus(const std::vector<std::string>& names, const std::vector<int>& granted) {
  std::vector<std::string> visible;
  for (const int gpu : granted) {
    const auto index = static_cast<size_t>(gpu);
    visible.push_back(index < names.size() ? names[index] : std::to_string(gpu));
  }
  return join(visible, ",");
}

}  // namespace longhaul

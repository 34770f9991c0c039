#include "control/worker/small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "longhaul/base/strings.h"
#include "longhaul/base/unique_fd.h"

namespace longhaul {

Result<void> write_small_file(const std::string& path, std::string_view text) {
  const std::string fresh = path + ".new";
  const auto failure = [&path] {
    return Failure{ErrorKind::kUnavailable, str_cat(path, ": ", ::strerror(errno))};
  };
  const UniqueFd fd(
      ::open(fresh.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!fd.valid()) return failure();
  while (!text.empty()) {
    const ssize_t written = ::write(fd.get(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return failure();
    text.remove_prefix(static_cast<size_t>(written));
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) return failure();
  return {};
}

std::optional<std::string> read_small_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::string{std::istreambuf_iterator<char>(file), {}};
}

}  // namespace longhaul

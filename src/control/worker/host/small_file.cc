#include "control/worker/host/small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "base/descriptors.h"
#include "base/unique_fd.h"
#include "longhaul/base/strings.h"

namespace longhaul {

Result<void> write_small_file(const std::string& path, std::string_view text) {
  // Written beside it and renamed over it: a reader sees the old text or the new one.
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

Result<std::optional<std::string>> read_small_file(const std::string& path, size_t max_bytes) {
  const auto failure = [&path](ErrorKind kind, std::string_view why) {
    return Failure{kind, str_cat(path, ": ", why)};
  };
  const UniqueFd fd(
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  struct stat info{};
  if (!fd.valid() && errno == ENOENT) return std::optional<std::string>();
  // With these flags open() says ELOOP for a link and ENXIO for a socket.
  if (!fd.valid() && errno == ELOOP) return failure(ErrorKind::kCorrupt, "a link");
  if (!fd.valid() && errno == ENXIO) return failure(ErrorKind::kCorrupt, "no file");
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0) {
    return failure(is_passing(errno) ? ErrorKind::kExhausted : ErrorKind::kUnavailable,
                   ::strerror(errno));
  }
  if (!S_ISREG(info.st_mode)) return failure(ErrorKind::kCorrupt, "no file");
  if (static_cast<uint64_t>(info.st_size) > max_bytes) {
    return failure(ErrorKind::kCorrupt, str_cat("too large: ", info.st_size, " bytes"));
  }
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t size = ::read(fd.get(), text.data() + have, text.size() - have);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return failure(ErrorKind::kUnavailable, ::strerror(errno));
    if (size == 0) break;
    have += static_cast<size_t>(size);
  }
  text.resize(have);
  return std::optional<std::string>(std::move(text));
}

}  // namespace longhaul

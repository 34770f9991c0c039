#include "control/worker/tasks/result_source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "base/descriptors.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// A link that leads nowhere is something that the task made.
bool is_absent(const ProcessFolder& folder) {
  struct stat info{};
  return ::lstat(ResultSource::path_in(folder).c_str(), &info) != 0 && errno == ENOENT;
}

}  // namespace

Result<ResultSource> ResultSource::open(const ProcessFolder& folder) {
  ResultSource source;
  UniqueFd file(::open(path_in(folder).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat info{};
  // Only a task that made nothing there has given what it printed.
  if (!file.valid() && errno == ENOENT && is_absent(folder)) {
    source.size_ = source.printed_.emplace(folder, 0).end();
    return source;
  }
  if (!file.valid() || ::fstat(file.get(), &info) != 0) {
    const ErrorKind kind = is_passing(errno) ? ErrorKind::kExhausted : ErrorKind::kInvalid;
    return Failure{kind,
                   str_cat("its result cannot be read: $LONGHAUL_RESULT: ", ::strerror(errno))};
  }
  if (!S_ISREG(info.st_mode)) {
    return Failure{ErrorKind::kInvalid, "its result cannot be read: $LONGHAUL_RESULT is no file"};
  }
  source.size_ = static_cast<uint64_t>(info.st_size);
  source.file_ = std::move(file);
  return source;
}

std::string ResultSource::read(uint64_t offset, size_t max) {
  std::string bytes;
  while (bytes.size() < max) {
    std::string piece;
    if (printed_) {
      uint64_t at = offset + bytes.size();
      piece = printed_->read(at, max - bytes.size());
      if (at != offset + bytes.size()) break;  // what lay before it is lost
    } else {
      piece.resize(max - bytes.size());
      const ssize_t read = ::pread(file_->get(), piece.data(), piece.size(),
                                   static_cast<off_t>(offset + bytes.size()));
      piece.resize(read > 0 ? static_cast<size_t>(read) : 0);
    }
    if (piece.empty()) break;
    bytes += piece;
  }
  return bytes;
}

}  // namespace longhaul

#include "control/master/output_log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string_view>
#include <utility>

#include "longhaul/base/log.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr uint32_t kMaxEntry = 16 << 20;  // no message of a worker is larger

}  // namespace

void OutputLog::open(const std::string& path, int flags) {
  fd_.reset(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | flags, S_IRUSR | S_IWUSR));
  complained_ = false;
}

// Nothing is known of what is there: it is left as it is, and what comes is kept in memory only.
void OutputLog::give_up(const std::string& why) {
  log(LogLevel::kError, "master", path_, ": ", why, "; its output is kept in memory only");
  fd_.reset();
  path_.clear();
}

// False: it cannot be read, which is not the same as that there is nothing.
bool OutputLog::read_all(std::string* bytes) {
  const UniqueFd file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return errno == ENOENT;
  struct stat info{};
  if (::fstat(file.get(), &info) != 0) return false;
  bytes->resize(static_cast<size_t>(info.st_size));
  size_t have = 0;
  while (have < bytes->size()) {
    const ssize_t read = ::read(file.get(), bytes->data() + have, bytes->size() - have);
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) return false;
    if (read == 0) break;
    have += static_cast<size_t>(read);
  }
  bytes->resize(have);
  return true;
}

std::vector<v1::Output> OutputLog::load() {
  std::vector<v1::Output> entries;
  if (path_.empty()) return entries;
  std::string bytes;
  if (!read_all(&bytes)) {
    give_up(::strerror(errno));
    return entries;
  }
  std::string_view rest = bytes;
  bool damaged = false;
  for (uint32_t size = 0; rest.size() >= sizeof(size) && !damaged;) {
    ::memcpy(&size, rest.data(), sizeof(size));
    if (size <= kMaxEntry && rest.size() < sizeof(size) + size) break;  // cut off by a crash
    v1::Output output;
    damaged = size > kMaxEntry ||
              !output.ParseFromArray(rest.data() + sizeof(size), static_cast<int>(size));
    if (damaged) break;
    rest.remove_prefix(sizeof(size) + size);
    entries.push_back(std::move(output));
  }
  bytes_ = bytes.size() - rest.size();
  const std::string copy = path_ + ".damaged";
  if (damaged && ::rename(path_.c_str(), copy.c_str()) == 0) {
    log(LogLevel::kError, "master", path_, ": damaged after ", bytes_, " bytes; the whole is in ",
        copy);
    std::vector<const v1::Output*> whole;
    for (const v1::Output& entry : entries) whole.push_back(&entry);
    rewrite(whole);
    return entries;
  }
  open(path_, 0);
  if (fd_.valid() && ::ftruncate(fd_.get(), static_cast<off_t>(bytes_)) != 0) fd_.reset();
  return entries;
}

bool OutputLog::append(const v1::Output& output) {
  if (path_.empty()) return true;
  std::string entry(sizeof(uint32_t), '\0');
  const auto size = static_cast<uint32_t>(output.ByteSizeLong());
  ::memcpy(entry.data(), &size, sizeof(size));
  output.AppendToString(&entry);
  if (!fd_.valid()) open(path_, 0);
  const ssize_t written = fd_.valid() ? ::write(fd_.get(), entry.data(), entry.size()) : -1;
  if (written == static_cast<ssize_t>(entry.size())) {
    bytes_ += entry.size();
    complained_ = false;
    return true;
  }
  // A write that was cut short is one that found no room for the rest.
  const int error = written < 0 ? errno : ENOSPC;
  const bool full = error == ENOSPC || error == EDQUOT;
  // Half an entry would hide all that follow.
  if (written > 0 && ::ftruncate(fd_.get(), static_cast<off_t>(bytes_)) != 0) fd_.reset();
  if (!complained_) {
    log(LogLevel::kError, "master", path_, ": ", ::strerror(error),
        full ? "; waiting for room" : "; output is kept in memory only");
  }
  complained_ = true;
  return !full;
}

bool OutputLog::rewrite(const std::vector<const v1::Output*>& entries) {
  if (path_.empty()) return true;
  const std::string draft = path_ + ".new";
  const uint64_t bytes_before = std::exchange(bytes_, 0);
  open(draft, O_TRUNC);
  for (const v1::Output* entry : entries) {
    append(*entry);
    if (complained_) break;
  }
  if (!complained_ && ::rename(draft.c_str(), path_.c_str()) == 0) return true;
  ::unlink(draft.c_str());
  fd_.reset();
  bytes_ = bytes_before;
  return false;
}

void OutputLog::remove() {
  fd_.reset();
  bytes_ = 0;
  if (!path_.empty()) ::unlink(path_.c_str());
}

}  // namespace longhaul

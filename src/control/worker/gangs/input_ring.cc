#include "control/worker/gangs/input_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/descriptors.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

Failure failure(const ProcessFolder& folder, int error_number) {
  return {is_passing(error_number) ? ErrorKind::kExhausted : ErrorKind::kUnavailable,
          str_cat(folder.path(), "/", ProcessLedger::kInputName, ": ", ::strerror(error_number))};
}

// The rank can write in this folder and may have put anything into its place: no link is followed
// and no pipe is waited for.
UniqueFd open_ring(const ProcessFolder& folder, int flags) {
  return UniqueFd(::openat(folder.fd(), ProcessLedger::kInputName,
                           O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags,
                           S_IRUSR | S_IWUSR));
}

}  // namespace

Result<void> InputRing::create() const {
  const UniqueFd ring = open_ring(folder_, O_CREAT | O_EXCL);
  if (!ring.valid()) return failure(folder_, errno);
  // Allocated before the rank starts: a full disk cannot hold up its input later.
  const int error = ::posix_fallocate(ring.get(), 0, ProcessLedger::kInputBytes);
  if (error != 0) return failure(folder_, error);
  return {};
}

Result<void> InputRing::give(uint64_t offset, std::string_view data, bool end) const {
  (void)folder_.refresh();  // else there is as much room as when it could last be read
  uint64_t at = given();
  if (closed() || offset > at) return {};
  // Bytes that were given before are skipped, so a message may come twice.
  const uint64_t known = std::min<uint64_t>(at - offset, data.size());
  const uint64_t waiting = at - std::min<uint64_t>(at, folder_.ledger().input.taken);
  const uint64_t room = ProcessLedger::kInputBytes - std::min(waiting, ProcessLedger::kInputBytes);
  std::string_view fresh = data.substr(known, room);
  const bool all = known + fresh.size() == data.size();
  const UniqueFd ring = open_ring(folder_, 0);
  if (!ring.valid()) return failure(folder_, errno);
  while (!fresh.empty()) {
    const uint64_t place = at % ProcessLedger::kInputBytes;
    const uint64_t size = std::min<uint64_t>(fresh.size(), ProcessLedger::kInputBytes - place);
    const ssize_t written = ::pwrite(ring.get(), fresh.data(), size, static_cast<off_t>(place));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return failure(folder_, written < 0 ? errno : EIO);
    at += static_cast<uint64_t>(written);
    fresh.remove_prefix(static_cast<size_t>(written));
  }
  // Only now do the bytes count as given: the shim reads nothing beyond. Killed before this, the
  // worker has given none of them, and they are written to the same places again.
  folder_.set_input(at, all && end);
  return {};
}

}  // namespace longhaul

#include "apps/shim/input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace longhaul {

Input::Input(int folder_fd, ProcessLedger::Input& ledger, bool wanted) : ledger_(ledger) {
  if (!wanted) return;
  int ends[2] = {-1, -1};
  ring_ = ::openat(folder_fd, ProcessLedger::kInputName, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  broken_ = ring_ < 0 || ::pipe2(ends, O_CLOEXEC) != 0;
  read_end_ = ends[0];
  write_end_ = ends[1];
  // A rank that does not read must not hold up its output, which the same thread moves.
  if (write_end_ >= 0) ::fcntl(write_end_, F_SETFL, O_NONBLOCK);
}

void Input::close_read_end() {
  if (read_end_ >= 0) ::close(read_end_);
  read_end_ = -1;
}

void Input::close_write_end() {
  ::close(write_end_);
  write_end_ = -1;
  ledger_.closed.store(true, std::memory_order_release);
}

bool Input::waiting() const {
  return ledger_.taken < ledger_.given.load(std::memory_order_acquire);
}

// That nobody reads any more shows as POLLERR, which poll() always waits for.
short Input::poll_events() const {
  return waiting() ? POLLOUT : 0;
}

bool Input::move() {
  if (write_end_ < 0) return false;
  bool moved = false;
  std::array<char, 16384> bytes;
  // The rank may have overwritten the ledger, which is in its reach: what it says is only asked
  // where to read in a file of a known size.
  while (waiting()) {
    const uint64_t taken = ledger_.taken;
    const uint64_t place = taken % ProcessLedger::kInputBytes;
    const uint64_t size = std::min({ledger_.given - taken, ProcessLedger::kInputBytes - place,
                                    static_cast<uint64_t>(bytes.size())});
    const ssize_t got = ::pread(ring_, bytes.data(), size, static_cast<off_t>(place));
    if (got < 0 && errno == EINTR) continue;
    // The ledger says that there is more than the file holds: something has cut the file short, and
    // the bytes are gone.
    if (got <= 0) {
      close_write_end();
      return true;
    }
    const ssize_t written = ::write(write_end_, bytes.data(), static_cast<size_t>(got));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) return moved;
    // EPIPE: no process reads this pipe any more.
    if (written <= 0) {
      close_write_end();
      return true;
    }
    // Only now may the worker write over these bytes in the ring. A shim that is killed before this
    // takes the rank with it, so no byte is ever read twice.
    ledger_.taken.store(taken + static_cast<uint64_t>(written), std::memory_order_release);
    moved = true;
  }
  // Everything that was given is in the pipe. Does anybody still read it, and does more come?
  pollfd reader{write_end_, 0, 0};
  const bool unread = ::poll(&reader, 1, 0) > 0 && (reader.revents & POLLERR) != 0;
  if (!unread && !ledger_.ended.load(std::memory_order_acquire)) return moved;
  // The worker sets `given` before `ended`. So now that `ended` is seen, one more look at `given`
  // tells whether bytes came after the loop above.
  if (!unread && waiting()) return moved;
  close_write_end();
  return true;
}

}  // namespace longhaul

#include "apps/shim/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <utility>

namespace longhaul {
namespace {

// 1,024 reads of 64 KiB. That is more than a pipe holds, so all that the tree has written is read.
// And it is an end: a process outside the tree may have the pipe open and write for ever.
constexpr int kDrainReads = 1024;

}  // namespace

Output::Output(int folder_fd, const char* name, ProcessLedger::Stream& stream, uint64_t max_bytes,
               bool terminal)
    : spool_(folder_fd, name, stream, max_bytes) {
  // On a host that has no pseudo terminals left a pipe must do.
  if (!terminal || !open_terminal()) open_pipe();
  if (read_end_ >= 0) ::fcntl(read_end_, F_SETFL, O_NONBLOCK);
}

void Output::open_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;
  read_end_ = ends[0];
  write_end_ = ends[1];
}

// O_NOCTTY: it is never the rank's controlling terminal, so no signal comes from it. Raw: bytes
// come out as they went in.
bool Output::open_terminal() {
  char name[64];
  const int ours = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (ours < 0) return false;
  const bool usable =
      ::grantpt(ours) == 0 && ::unlockpt(ours) == 0 && ::ptsname_r(ours, name, sizeof(name)) == 0;
  const int ranks = usable ? ::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
  if (ranks < 0) {
    ::close(ours);
    return false;
  }
  termios mode{};
  ::tcgetattr(ranks, &mode);
  ::cfmakeraw(&mode);
  ::tcsetattr(ranks, TCSANOW, &mode);
  // Programs that draw progress bars ask for the size. No window is behind this terminal, so it is
  // only a usual one.
  winsize size{};
  size.ws_row = 24;
  size.ws_col = 100;
  ::ioctl(ranks, TIOCSWINSZ, &size);
  read_end_ = ours;
  write_end_ = ranks;
  return true;
}

void Output::close_write_end() {
  if (write_end_ >= 0) ::close(std::exchange(write_end_, -1));
}

bool Output::read_once() {
  // As much as a pipe usually holds. Static, because the shim has one thread, and both streams use
  // it in turn.
  static char buffer[64 << 10];
  if (read_end_ < 0) return false;
  const ssize_t size = ::read(read_end_, buffer, sizeof(buffer));
  if (size > 0) {
    spool_.append(buffer, static_cast<size_t>(size));
    last_byte_ = buffer[size - 1];
    return true;
  }
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  // The end of the stream; for a pseudo terminal Linux reports it as EIO.
  ::close(std::exchange(read_end_, -1));
  return false;
}

void Output::drain() {
  for (int i = 0; i < kDrainReads && read_once(); ++i) {
  }
}

void Output::add_remark(const std::string& line) {
  const std::string text = (last_byte_ == '\n' ? "" : "\n") + line + "\n";
  spool_.append(text.data(), text.size());
}

}  // namespace longhaul

#include "apps/cli/follow/screen.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "apps/cli/commands/exit_codes.h"
#include "apps/cli/follow/progress.h"
#include "base/printable.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

bool can_hold_a_live_line() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && term != nullptr && std::string_view(term) != "dumb";
}

constexpr size_t kUsualWidth = 80;

size_t terminal_width(int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsualWidth;
  return size.ws_col;
}

// 0, or errno.
int write_fully(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {
      // Somebody made our terminal or pipe non-blocking for all who share it.
      pollfd room{fd, POLLOUT, 0};
      ::poll(&room, 1, -1);
      continue;
    }
    if (written < 0) return errno;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

}  // namespace

Screen::Screen(bool output_to_stderr, bool raw)
    : output_fd_(output_to_stderr ? STDERR_FILENO : STDOUT_FILENO),
      raw_(raw),
      live_(can_hold_a_live_line()) {}

Screen::~Screen() {
  erase_line();
}

void Screen::output(const std::string& lines, bool is_stderr) {
  if (lines.empty()) return;
  erase_line();
  write_all(is_stderr ? STDERR_FILENO : output_fd_, lines);
  repaint();
}

bool Screen::filters(bool is_stderr) const {
  return !raw_ && isatty(is_stderr ? STDERR_FILENO : output_fd_) == 1;
}

void Screen::message(const std::string& text) {
  this->text("longhaul: " + printable_line(text) + "\n");
}

void Screen::text(const std::string& text) {
  erase_line();
  write_all(STDERR_FILENO, text);
  repaint();
}

void Screen::show_line(const std::string& line) {
  if (!live_ || line == line_) return;
  erase_line();
  line_ = line;
  repaint();
}

void Screen::write_all(int fd, const std::string& text) {
  const int error = write_fully(fd, text);
  // Only for the ranks' output. What stderr does not take cannot be complained of on stderr either.
  if (error != 0 && fd == output_fd_ && output_error_ == 0) output_error_ = error;
}

void Screen::erase_line() {
  if (painted_) write_fully(STDERR_FILENO, "\r\x1b[K");
  painted_ = false;
}

void Screen::repaint() {
  if (line_.empty()) return;
  // One column stays free: a terminal wraps when its last one is written.
  write_fully(STDERR_FILENO, fit_line(line_, terminal_width(STDERR_FILENO) - 1));
  painted_ = true;
}

size_t stdout_width() {
  if (isatty(STDOUT_FILENO) == 1) return terminal_width(STDOUT_FILENO);
  const char* columns = std::getenv("COLUMNS");
  const long width = columns == nullptr ? 0 : std::strtol(columns, nullptr, 10);
  return width > 0 ? static_cast<size_t>(width) : kUsualWidth;
}

OutputError::OutputError(int error)
    : std::runtime_error(str_cat("cannot write to standard output: ", ::strerror(error))),
      error_(error) {}

bool OutputError::reader_is_gone() const {
  return error_ == EPIPE;
}

int OutputError::exit_code() const {
  return reader_is_gone() ? 128 + SIGPIPE : kExitCannotCreate;
}

void print(std::string_view text) {
  if (const int error = write_fully(STDOUT_FILENO, text); error != 0) throw OutputError(error);
}

void hold_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    // open() takes the lowest free number, which is this one. It is opened for reading only, so
    // that writing to it fails with EBADF as it would if it were closed.
    (void)::open("/dev/null", O_RDONLY);
  }
}

}  // namespace longhaul::cli

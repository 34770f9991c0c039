// What the user sees: the ranks' lines, our own messages, and one live line below them on a
// terminal. Thread safety: one thread.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace longhaul::cli {

class Screen {
 public:
  // `output_to_stderr`: the ranks' stdout goes to stderr too, because stdout holds a document for
  // programs. `raw`: see filters(), which is false then.
  explicit Screen(bool output_to_stderr = false, bool raw = false);
  // Takes the live line away.
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // Whole lines of the ranks.
  void output(const std::string& lines, bool is_stderr);
  // Whether they go to a terminal, which is to get terminal_text.h's.
  bool filters(bool is_stderr) const;
  // A line of ours, to stderr; "longhaul: " is put in front. It stays one line, whatever others'
  // names and messages in it hold (base/printable.h).
  void message(const std::string& text);
  // Text of ours as it is, to stderr.
  void text(const std::string& text);

  // Whether stderr is a terminal that can hold a live line.
  bool live() const { return live_; }
  // Replaces the live line; "" takes it away. Nothing happens where live() is false.
  void show_line(const std::string& line);

  // Why nothing more can be shown, as errno has it; 0: all is well.
  int output_error() const { return output_error_; }

 private:
  void write_all(int fd, const std::string& text);
  void erase_line();
  void repaint();

  const int output_fd_;
  const bool raw_;
  const bool live_;
  std::string line_;
  bool painted_ = false;
  int output_error_ = 0;
};

// Columns of the terminal that stdout is; elsewhere $COLUMNS, or 80.
size_t stdout_width();

// Standard output takes nothing more: its disk is full, or its reader has gone. main() says so, but
// for the latter (`longhaul logs j1 | head`), and ends with exit_code().
class OutputError : public std::runtime_error {
 public:
  explicit OutputError(int error);
  bool reader_is_gone() const;
  int exit_code() const;

 private:
  const int error_;
};

// Writes a document to stdout. Throws OutputError.
void print(std::string_view text);

// Standard streams that were closed before we started are taken, so that nothing else can get their
// numbers: writing to them is an error. Before anything is opened.
void hold_standard_streams();

}  // namespace longhaul::cli

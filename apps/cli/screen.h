// What the user sees: the ranks' lines, our own messages, and one live line below them on a
// terminal. Thread safety: one thread.
#pragma once

#include <string>

namespace longhaul::cli {

class Screen {
 public:
  // `output_to_stderr`: the ranks' stdout goes to stderr too, because stdout holds a document for
  // programs. `raw`: a terminal gets what ranks print as it is, instead of terminal_text.h's.
  explicit Screen(bool output_to_stderr = false, bool raw = false);
  // Takes the live line away.
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // Whole lines of the ranks.
  void output(const std::string& lines, bool is_stderr);
  // A line of ours, to stderr; "longhaul: " is put in front. It stays one line, whatever others'
  // names and messages in it hold (base/printable.h).
  void message(const std::string& text);
  // Text of ours as it is, to stderr.
  void text(const std::string& text);

  // Whether stderr is a terminal that can hold a live line.
  bool live() const { return live_; }
  // Replaces the live line; "" takes it away. Nothing happens where live() is false.
  void show_line(const std::string& line);

  // A reader of ours has gone (`longhaul logs j1 | head`): nothing more can be shown.
  bool broken() const { return broken_; }

 private:
  void write_all(int fd, const std::string& text);
  void erase_line();
  void repaint();

  const int output_fd_;
  const bool raw_;
  const bool live_;
  std::string line_;
  bool painted_ = false;
  bool broken_ = false;
};

// Columns of the terminal that stdout is; elsewhere $COLUMNS, or 80.
size_t stdout_width();

// Writes a document to stdout; false when nobody reads it.
bool print(const std::string& text);

}  // namespace longhaul::cli

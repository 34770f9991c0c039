// One process that takes many inputs, for programs that are slow to start (`longhaul map --warm`):
// an input is a line on its stdin, and it answers with one line on its stdout before it is given
// the next. What it writes to stderr is its own affair.
//
// What would shift answers from one input to the next ends it, with a word about it: a line that
// nobody asked for, one that was printed before the input was read, two lines for one input.
//
// Thread safety: none; lives on one EventLoop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "control/worker/output/spool_reader.h"
#include "control/worker/process/folder_remover.h"
#include "control/worker/process/managed_process.h"

namespace longhaul {

class WarmProcess {
 public:
  struct Listener {
    // Its answer to the input that it was given last, without the line end.
    std::function<void(std::string answer)> answered;
    // Last of all: it is gone. `broken`: how it broke the rules above; empty: it did not.
    std::function<void(const ProcessEnd& end, const std::string& broken)> ended;
  };

  // Starts it in `folder`, which is made, and in the end removed. `longest`: bytes of an answer.
  // Errors: as ManagedProcess::start().
  static Result<std::unique_ptr<WarmProcess>> start(EventLoop& loop, FolderRemover& remover,
                                                    const std::string& folder,
                                                    const std::string& token,
                                                    const ShimOptions& shim, ProcessCommand command,
                                                    uint64_t longest, Listener listener);
  // Not from inside a callback.
  ~WarmProcess();
  WarmProcess(const WarmProcess&) = delete;
  WarmProcess& operator=(const WarmProcess&) = delete;

  // The next input. Precondition: the last one has been answered. Errors: kInvalid (it is more than
  // one line, or longer than a pipe holds; the process is well).
  Result<void> give(const std::string& input);
  // No more inputs: its stdin ends.
  void close_input() { inputs_.reset(); }
  void terminate() { process_->terminate(); }
  void kill() { process_->kill(); }
  // The end of what it wrote to stderr since it was given its last input (of all, before the
  // first).
  std::string said() const;
  pid_t pid() const { return static_cast<pid_t>(folder_.ledger().rank_pid); }

 private:
  WarmProcess(EventLoop& loop, FolderRemover& remover, ProcessFolder folder, UniqueFd inputs,
              uint64_t longest, Listener listener);
  void look();
  void look_later();
  void tell_end();
  void break_off(const std::string& why);
  bool has_unread_input() const;

  EventLoop& loop_;
  FolderRemover& remover_;
  ProcessFolder folder_;
  UniqueFd inputs_;  // open for reading too, so that writing never meets a pipe without a reader
  const uint64_t longest_;
  Listener listener_;
  EventLoop::TimerId look_again_ = 0;
  std::optional<ProcessEnd> end_;  // not told yet
  SpoolReader output_;
  // Up to here its stdout has been read; line_ is what of that is not answered yet.
  uint64_t offset_ = 0;
  uint64_t said_before_ = 0;  // bytes of stderr that are of earlier inputs
  std::string line_;
  // It has been given an input that it has not answered.
  bool asked_ = false;
  // Which rule it broke; then it is killed, and what it prints is ignored.
  std::string broken_;
  // It refers to folder_: declared behind it, so destroyed before it.
  std::unique_ptr<ManagedProcess> process_;
};

}  // namespace longhaul

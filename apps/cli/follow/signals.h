// Ctrl-C and friends, counted: whoever loops looks at the count between two events.
#pragma once

namespace longhaul::cli {

// While one lives, SIGINT, SIGTERM and SIGHUP are counted instead of ending the process, and a
// reader that goes away is an error of write() instead of SIGPIPE. At most one at a time.
class SignalCounter {
 public:
  SignalCounter();
  ~SignalCounter();
  SignalCounter(const SignalCounter&) = delete;
  SignalCounter& operator=(const SignalCounter&) = delete;

  // Of all three.
  int count() const;
  int hangups() const;
  // The first one that came; 0: none.
  int first() const;
};

}  // namespace longhaul::cli

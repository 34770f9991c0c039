// The users' commands, one in each host's network namespace, all of them in one PID namespace. Its
// first process does nothing but start them, tell how they end and end itself with linkem, also
// when that is killed with SIGKILL; and with it the kernel ends every process of the namespace,
// background children and daemons too. So nothing a command starts can outlive its emulation.
//
// Thread safety: one thread, the main one; start() before any other thread starts, as it forks.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "longhaul/base/result.h"

namespace longhaul::linkem {

struct Command {
  size_t host = 0;
  std::vector<std::string> words;
  std::vector<std::string> environment;  // NAME=VALUE, on top of our own
  int net_namespace = -1;
  // Where its standard streams go; -1: where ours go. Descriptors stay the caller's.
  int input = -1;
  int output = -1;
  int errors = -1;
};

struct CommandEnd {
  size_t host = 0;
  int exit_code = 0;  // 128 + signal for one that a signal ended; 127: it could not be started
};

class CommandGroup {
 public:
  // Makes the namespace; the commands wait for begin(). kUnavailable without the right to.
  static Result<CommandGroup> start(const std::vector<Command>& commands);
  ~CommandGroup();
  CommandGroup(CommandGroup&&) = default;
  CommandGroup& operator=(CommandGroup&&) = delete;

  void begin();
  // To every process of the namespace but the first.
  void signal(int signal);
  // Ends all of them at once.
  void kill();

  // Readable when take_end() has something to say.
  int fd() const { return channel_.get(); }
  // The next end of a command. Nothing: all have ended, and nothing of theirs is left.
  std::optional<CommandEnd> take_end();

 private:
  CommandGroup(UniqueFd channel, pid_t first) : channel_(std::move(channel)), first_(first) {}

  UniqueFd channel_;
  pid_t first_;
};

}  // namespace longhaul::linkem

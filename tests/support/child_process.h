// A program that a test starts: its output in files, its end awaited with a limit, its process gone
// when the object goes. And the proof that a test left nothing running.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace longhaul::testing {

// What can be read: "" for a file that is not there, or of a process that is just going.
inline std::string read_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class ChildProcess {
 public:
  struct Options {
    std::map<std::string, std::string> env;  // on top of our own
    std::string folder;                      // to start in; empty: ours
  };

  // Output goes to OUTPUT.out and OUTPUT.err. A process group of its own, so that a Ctrl-C at the
  // terminal ends the test and not the child first. A program that is not there exits with 127.
  ChildProcess(const std::vector<std::string>& command, const std::string& output,
               const Options& options)
      : out_file_(output + ".out"), err_file_(output + ".err") {
    std::vector<std::string> environment;
    for (char** entry = ::environ; *entry != nullptr; ++entry) {
      const std::string text(*entry);
      if (!options.env.contains(text.substr(0, text.find('=')))) environment.push_back(text);
    }
    for (const auto& [name, value] : options.env) environment.push_back(name + "=" + value);
    start(command, environment, options.folder);
  }

  ~ChildProcess() {
    if (!end_) {
      kill(SIGKILL);
      wait(std::chrono::seconds(20));
    }
  }

  ChildProcess(ChildProcess&&) = delete;

  pid_t pid() const { return pid_; }
  // Nothing happens once the end has been seen: the pid may be another process's by then.
  void kill(int signal) const {
    if (!end_) ::kill(pid_, signal);
  }

  // The exit code, 128 + signal for a process that one ended; nullopt when it still runs after
  // `limit`.
  std::optional<int> wait(std::chrono::milliseconds limit = std::chrono::seconds(60)) {
    if (end_) return end_;
    pollfd watched{pidfd_.get(), POLLIN, 0};
    if (::poll(&watched, 1, static_cast<int>(limit.count())) <= 0) return std::nullopt;
    int status = 0;
    if (::waitpid(pid_, &status, 0) != pid_) return std::nullopt;
    end_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return end_;
  }

  std::string out() const { return read_text(out_file_); }
  std::string err() const { return read_text(err_file_); }

 private:
  void start(const std::vector<std::string>& command, const std::vector<std::string>& environment,
             const std::string& folder) {
    const std::vector<char*> arguments = pointers(command);
    const std::vector<char*> variables = pointers(environment);
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("fork for " + command[0]);
    if (pid_ == 0) become(arguments, variables, folder);
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  }

  // In the child: only what is allowed between fork() and exec() of a program with threads.
  [[noreturn]] void become(const std::vector<char*>& arguments, const std::vector<char*>& variables,
                           const std::string& folder) const {
    ::setpgid(0, 0);
    // A test program that is itself killed takes its children along.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
    ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
    ::dup2(::open(out_file_.c_str(), kFlags | O_CLOEXEC, 0600), 1);
    ::dup2(::open(err_file_.c_str(), kFlags | O_CLOEXEC, 0600), 2);
    if (folder.empty() || ::chdir(folder.c_str()) == 0) {
      ::execvpe(arguments[0], arguments.data(), variables.data());
    }
    ::_exit(127);
  }

  static std::vector<char*> pointers(const std::vector<std::string>& strings) {
    std::vector<char*> result;
    result.reserve(strings.size() + 1);
    for (const std::string& text : strings) result.push_back(const_cast<char*>(text.c_str()));
    result.push_back(nullptr);
    return result;
  }

  const std::string out_file_;
  const std::string err_file_;
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  std::optional<int> end_;
};

// The processes, other than this one, that run with NAME=VALUE in the environment that they started
// with. Whatever a test starts inherits its marker, down to the last rank.
inline std::vector<pid_t> processes_marked(const std::string& marker) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string environment = '\0' + read_text("/proc/" + name + "/environ");
    const pid_t pid = std::stoi(name);
    if (pid != ::getpid() && environment.find('\0' + marker + '\0') != std::string::npos) {
      found.push_back(pid);
    }
  }
  return found;
}

}  // namespace longhaul::testing

// A program that a test starts: its output in files, its end awaited with a limit, its process gone
// when the object goes. And the proof that a test left nothing running.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "longhaul/base/unique_fd.h"

namespace longhaul::testing {

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class ChildProcess {
 public:
  struct Options {
    std::map<std::string, std::string> env;  // on top of our own
    std::string folder;                      // to start in; empty: ours
  };

  // Output goes to OUTPUT.out and OUTPUT.err. A process group of its own, so that a Ctrl-C at the
  // terminal ends the test and not the child first. Throws where it cannot be started.
  ChildProcess(const std::vector<std::string>& command, std::string output, const Options& options)
      : output_(std::move(output)) {
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

  std::string out() const { return read_text(output_ + ".out"); }
  std::string err() const { return read_text(output_ + ".err"); }

 private:
  void start(const std::vector<std::string>& command, const std::vector<std::string>& environment,
             const std::string& folder) {
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, (output_ + ".out").c_str(), kFlags, 0600);
    posix_spawn_file_actions_addopen(&files, 2, (output_ + ".err").c_str(), kFlags, 0600);
    if (!folder.empty()) posix_spawn_file_actions_addchdir_np(&files, folder.c_str());
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    const int error = ::posix_spawnp(&pid_, command[0].c_str(), &files, &attributes,
                                     pointers(command).data(), pointers(environment).data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    if (error != 0) throw std::runtime_error("cannot start " + command[0]);
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  }

  static std::vector<char*> pointers(const std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (const std::string& text : strings) result.push_back(const_cast<char*>(text.c_str()));
    result.push_back(nullptr);
    return result;
  }

  const std::string output_;
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

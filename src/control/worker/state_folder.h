// Where a worker keeps its socket and its spools: a folder that only this user may enter, locked
// while the worker lives.
#pragma once

#include <string>

#include "longhaul/base/result.h"
#include "longhaul/base/unique_fd.h"

namespace longhaul {

class StateFolder {
 public:
  // `path` empty: a temporary folder, removed at the end; folders that killed workers left are
  // removed too. Errors: kUnavailable (cannot be made), kInvalid (another worker uses it).
  static Result<StateFolder> open(const std::string& path);

  StateFolder(StateFolder&& other) noexcept = default;
  StateFolder& operator=(StateFolder&&) = delete;
  // Removes the socket and the spools, and a temporary folder as a whole.
  ~StateFolder();

  const std::string& path() const { return path_; }
  std::string spools() const { return path_ + "/spool"; }
  // At most 107 bytes long, as a socket's path must be.
  std::string socket() const { return socket_folder_ + "/agent.sock"; }

 private:
  StateFolder() = default;

  std::string path_;
  std::string socket_folder_;  // another temporary folder when path_ is too long
  bool temporary_ = false;
  UniqueFd lock_;
};

}  // namespace longhaul

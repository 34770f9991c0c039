// Where a worker keeps its socket, its spools and what the next worker needs to go on in its place:
// a folder that only this user may enter, locked while the worker lives.
#pragma once

#include <string>

#include "base/unique_fd.h"
#include "control/worker/session/worker_identity.h"
#include "longhaul/base/result.h"

namespace longhaul {

class StateFolder {
 public:
  // `path` empty: a temporary folder, removed at the end; temporary folders that killed workers
  // left are removed too, and what still runs of their ranks is killed. Any other folder keeps what
  // a killed worker left in it. Errors: kUnavailable (cannot be made), kInvalid (another worker
  // uses it, or it is a copy of another one).
  static Result<StateFolder> open(const std::string& path);

  StateFolder(StateFolder&& other) noexcept = default;
  StateFolder& operator=(StateFolder&&) = delete;
  // Removes the socket and what is empty, and a temporary folder as a whole.
  ~StateFolder();

  const std::string& path() const { return path_; }
  std::string spools() const { return path_ + "/spool"; }
  // As found when the folder was opened.
  const WorkerIdentity& predecessor() const { return predecessor_; }
  // At most 107 bytes long, as a socket's path must be; the same whenever the folder is opened, so
  // that ranks find the worker that comes after a killed one.
  std::string socket() const { return socket_folder_ + "/agent.sock"; }

 private:
  StateFolder() = default;
  Result<std::string> find_socket_folder() const;

  std::string path_;
  std::string socket_folder_;  // another temporary folder when path_ is too long
  bool temporary_ = false;
  UniqueFd lock_;
  WorkerIdentity predecessor_;
};

}  // namespace longhaul

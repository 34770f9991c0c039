#include "control/worker/host/state_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <utility>

#include "control/worker/gangs/launch_record.h"
#include "control/worker/gangs/left_behind.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

// A temporary folder is made under the second name and gets the first one when it is locked:
// folders of the first name whose lock is free were left by killed workers.
constexpr const char* kPrefix = "longhaul-worker-";
constexpr const char* kUnlockedPrefix = "longhaul-starting-";
constexpr const char* kSocketLink = "socket-folder";

Failure folder_failure(const std::string& path, int error_number) {
  return {ErrorKind::kUnavailable, str_cat("state folder ", path, ": ", ::strerror(error_number))};
}

fs::path temporary_root() {
  std::error_code error;
  const fs::path root = fs::absolute(fs::temp_directory_path(error), error);
  return error ? fs::path("/tmp") : root;
}

Result<std::string> make_temporary(const fs::path& root, const char* prefix = kPrefix) {
  std::string path = (root / (std::string(prefix) + "XXXXXX")).string();
  if (::mkdtemp(path.data()) == nullptr) return folder_failure(path, errno);
  return path;
}

// flock() goes with its descriptor: a live worker holds its lock, that of a killed one is free.
Result<UniqueFd> try_lock(const std::string& folder, bool create) {
  const std::string path = folder + "/lock";
  const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (create ? O_CREAT : 0);
  UniqueFd fd(::open(path.c_str(), flags, S_IRUSR | S_IWUSR));
  if (!fd.valid()) return folder_failure(folder, errno);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return folder_failure(folder, errno);
  return Failure{ErrorKind::kInvalid, str_cat("state folder ", folder, ": used by another worker")};
}

std::string spools_of(const std::string& folder) {
  return folder + "/spool";
}

bool is_ours(const fs::path& folder) {
  struct stat info{};
  return ::lstat(folder.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
         info.st_uid == ::geteuid() && folder.filename().string().starts_with(kPrefix);
}

void remove_left_behind(const fs::path& root) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root, error)) {
    if (!is_ours(entry.path())) continue;
    const Result<UniqueFd> lock = try_lock(entry.path().string(), false);
    if (!lock) continue;
    // With processes that could not be looked at the folder stays, for another worker.
    if (!clean_up(LaunchRecord::find(spools_of(entry.path().string())))) continue;
    std::error_code ignored;
    fs::remove_all(entry.path(), ignored);
  }
}

bool fits_socket(const std::string& folder) {
  return folder.size() + sizeof("/agent.sock") <= sizeof(sockaddr_un{}.sun_path);
}

}  // namespace

Result<StateFolder> StateFolder::open(const std::string& path) {
  StateFolder folder;
  std::error_code error;
  // Absolute, because tasks are given paths in it and run in a folder of their own.
  if (!path.empty()) folder.path_ = fs::absolute(path, error).lexically_normal().string();
  if (error) return folder_failure(path, error.value());
  if (path.empty()) {
    remove_left_behind(temporary_root());
    Result<std::string> made = make_temporary(temporary_root(), kUnlockedPrefix);
    if (!made) return made.failure();
    folder.path_ = *made;
    folder.temporary_ = true;
  }
  fs::create_directories(folder.spools(), error);
  if (error) return folder_failure(folder.path_, error.value());
  Result<UniqueFd> lock = try_lock(folder.path_, true);
  if (!lock) return lock.failure();
  // Before anything in it is touched: in a copied folder it may be another worker's.
  Result<WorkerIdentity> predecessor = find_identity(folder.path_);
  if (!predecessor) return predecessor.failure();
  folder.predecessor_ = std::move(*predecessor);
  folder.lock_ = std::move(*lock);
  // Renamed only now that it is locked: under this name others take an unlocked one for left
  // behind.
  if (folder.temporary_) {
    const fs::path draft = folder.path_;
    folder.path_ = draft.parent_path() /
                   (kPrefix + draft.filename().string().substr(std::strlen(kUnlockedPrefix)));
    fs::rename(draft, folder.path_, error);
    if (error) return folder_failure(draft.string(), error.value());
  }
  // Also where somebody made the folder with other rights: its socket, and what ranks print, are
  // for this user alone.
  ::chmod(folder.path_.c_str(), S_IRWXU);
  Result<std::string> socket_folder = folder.find_socket_folder();
  if (!socket_folder) return socket_folder.failure();
  folder.socket_folder_ = *socket_folder;
  // A killed worker has left its socket; bind() would fail on it.
  ::unlink(folder.socket().c_str());
  return folder;
}

// Where the socket's path would be too long it lies in another temporary folder, and a link in ours
// says where, for the next worker.
Result<std::string> StateFolder::find_socket_folder() const {
  const fs::path own = fs::absolute(path_);
  if (fits_socket(own.string())) return own.string();
  std::error_code error;
  const fs::path known = fs::read_symlink(own / kSocketLink, error);
  if (!error && is_ours(known)) return known.string();
  Result<std::string> made = make_temporary("/tmp");
  if (!made) return made;
  fs::remove(own / kSocketLink, error);
  fs::create_directory_symlink(*made, own / kSocketLink, error);
  if (error) return folder_failure((own / kSocketLink).string(), error.value());
  return made;
}

StateFolder::~StateFolder() {
  if (!lock_.valid()) return;
  std::error_code ignored;
  ::unlink(socket().c_str());
  // A spool folder that is not empty has launches in it. A worker that could not start leaves them,
  // and the identity that they belong to, to the next one.
  if (!temporary_ && !fs::remove(spools(), ignored)) return;
  const fs::path own = fs::absolute(path_);
  if (socket_folder_ != own.string()) fs::remove_all(socket_folder_, ignored);
  fs::remove(own / kSocketLink, ignored);
  fs::remove(identity_file(path_), ignored);
  if (temporary_) fs::remove_all(own, ignored);
}

}  // namespace longhaul

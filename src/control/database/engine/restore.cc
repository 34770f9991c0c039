#include "control/database/engine/restore.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "base/unique_fd.h"
#include "control/database/database.h"
#include "control/database/engine/life_file.h"
#include "control/database/engine/migrations.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

Failure failure_of(const fs::path& path, const std::error_code& error) {
  const bool full = error == std::errc::no_space_on_device;
  return {full ? ErrorKind::kExhausted : ErrorKind::kUnavailable,
          str_cat(path.string(), ": ", error.message())};
}

Result<void> sync(const fs::path& path, int flags) {
  const UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (fd.valid() && ::fsync(fd.get()) == 0) return {};
  return failure_of(path, {errno, std::generic_category()});
}

// The first name that is free.
fs::path place_aside(const fs::path& folder) {
  for (int number = 1;; ++number) {
    fs::path place = folder / str_cat("before-restore-", number);
    if (!fs::exists(place)) return place;
  }
}

Result<std::string> move_aside(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder / "master.db")) return std::string();
  const fs::path place = place_aside(folder);
  fs::create_directory(place, error);
  // The order counts for a crash in between. Without its life file a database begins a new life,
  // whatever else is there. A log must not stay behind when its database is gone: SQLite would play
  // it into the next one.
  for (const char* name : {"life", "master.db-wal", "master.db-shm", "master.db"}) {
    if (!error && fs::exists(folder / name)) fs::rename(folder / name, place / name, error);
  }
  if (error) return failure_of(place, error);
  return place.string();
}

// Those that are there already are the same: a result never changes.
Result<void> copy_results(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (!fs::exists(from)) return {};
  fs::copy(from, to, fs::copy_options::recursive | fs::copy_options::skip_existing, error);
  if (error) return failure_of(to, error);
  return {};
}

Result<void> check_copy(const std::string& backup) {
  Result<Sqlite> copy = Sqlite::open(backup, Sqlite::Mode::kReadOnly);
  if (!copy) return Failure{ErrorKind::kInvalid, copy.failure().message};
  const Result<int64_t> version = version_of_ours(*copy);
  if (!version) return version.failure();
  if (*version == 0) return Failure{ErrorKind::kInvalid, "it is empty"};
  return {};
}

}  // namespace

Result<std::string> restore_state(const std::string& backup, const std::string& state_folder) {
  if (Result<void> ours = check_copy(backup); !ours) {
    return Failure{ErrorKind::kInvalid, str_cat(backup, ": ", ours.failure().message)};
  }
  const Result<UniqueFd> lock = lock_state_folder(state_folder);
  if (!lock) return lock.failure();
  const fs::path folder = state_folder;
  Result<std::string> aside = move_aside(folder);
  if (!aside) return aside;
  const Result<void> results = copy_results(backup + ".results", folder / "results");
  if (!results) return results.failure();
  std::error_code error;
  // It gets its name when it is whole: a restore that was broken off leaves no half database.
  fs::copy_file(backup, folder / "master.db.new", fs::copy_options::overwrite_existing, error);
  if (error) return failure_of(folder / "master.db", error);
  // Synced before it gets its name, and the name after it: an empty file would be a new database.
  if (Result<void> synced = sync(folder / "master.db.new", O_RDONLY); !synced)
    return synced.failure();
  fs::rename(folder / "master.db.new", folder / "master.db", error);
  if (error) return failure_of(folder / "master.db", error);
  if (Result<void> synced = sync(folder, O_RDONLY | O_DIRECTORY); !synced) return synced.failure();
  return aside;
}

Result<void> begin_new_life(const std::string& state_folder) {
  if (!fs::exists(fs::path(state_folder) / "master.db")) {
    return Failure{ErrorKind::kInvalid, str_cat(state_folder, ": holds no master.db")};
  }
  const Result<UniqueFd> lock = lock_state_folder(state_folder);
  if (!lock) return lock.failure();
  return remove_life_file(state_folder);
}

}  // namespace longhaul

#include "control/database/result_files.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <optional>
#include <vector>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPart = ".part";
constexpr size_t kReadBytes = size_t{1} << 20;

std::string results_folder(const std::string& state_folder) {
  return state_folder + "/results";
}

std::string path_in(const std::string& results_folder, const ResultName& name) {
  return str_cat(results_folder, "/", name.job, "/", name.task, ".", name.epoch);
}

Failure disk_failure(const std::string& path) {
  return {ErrorKind::kUnavailable, str_cat(path, ": ", ::strerror(errno))};
}

template <typename Number>
bool parse(std::string_view text, Number* number) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), *number);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
}

std::optional<ResultName> name_of(const fs::path& path) {
  std::string file = path.filename();
  if (file.ends_with(kPart)) file.resize(file.size() - kPart.size());
  const size_t dot = file.find('.');
  ResultName name;
  if (dot == std::string::npos || !parse(path.parent_path().filename().string(), &name.job) ||
      !parse(std::string_view(file).substr(0, dot), &name.task) ||
      !parse(std::string_view(file).substr(dot + 1), &name.epoch)) {
    return std::nullopt;
  }
  return name;
}

// None where it is no folder. Errors: kUnavailable. A folder that cannot be read is not to be taken
// for an empty one: its results would count as gone.
Result<std::vector<fs::path>> entries_of(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    found.push_back(entry->path());
  }
  const bool none =
      error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
  if (!error || none) return found;
  return Failure{ErrorKind::kUnavailable, str_cat(folder.string(), ": ", error.message())};
}

// A new name is on disk only when its folder has been synced.
Result<void> sync_folder(const std::string& folder) {
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) return disk_failure(folder);
  return {};
}

}  // namespace

Result<void> ResultDraft::open() {
  const std::string part = path_ + std::string(kPart);
  file_.reset(::open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR));
  if (!file_.valid()) return disk_failure(part);
  // What an earlier try has left is read once, for the checksum of all of it. It was not synced, so
  // after a power failure it may be anything: finish() finds that out, and all of it is sent again.
  std::string bytes(kReadBytes, '\0');
  while (true) {
    const ssize_t read = ::read(file_.get(), bytes.data(), bytes.size());
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) return disk_failure(part);
    if (read == 0) return {};
    checksum_.update(std::string_view(bytes).substr(0, static_cast<size_t>(read)));
    size_ += static_cast<uint64_t>(read);
  }
}

Result<void> ResultDraft::append(std::string_view bytes) {
  // Asked before each piece: the room that the database needs must be left, whoever else fills the
  // disk.
  Result<void> room = check_room(folder_, bytes.size());
  if (!room) return room;
  while (!bytes.empty()) {
    const ssize_t wrote =
        ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(size_));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return disk_failure(path_);
    checksum_.update(bytes.substr(0, static_cast<size_t>(wrote)));
    size_ += static_cast<uint64_t>(wrote);
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  return {};
}

Result<void> ResultDraft::finish(uint64_t bytes, uint64_t checksum) {
  const std::string part = path_ + std::string(kPart);
  if (size_ != bytes || checksum_.value() != checksum) {
    // Which of its bytes are wrong nobody can tell, so the next try begins at 0.
    ::unlink(part.c_str());
    return Failure{ErrorKind::kCorrupt,
                   str_cat(path_, ": ", size_, " bytes came that are not the ", bytes,
                           " that were promised; all of it is wanted again")};
  }
  // The bytes before the name, the name before the answer: after a power failure a file under its
  // own name is whole.
  if (::fsync(file_.get()) != 0 || ::rename(part.c_str(), path_.c_str()) != 0) {
    return disk_failure(part);
  }
  return sync_folder(folder_);
}

Result<size_t> ResultFiles::sweep(
    const std::function<Standing(const ResultName&)>& standing,
    const std::function<void(const ResultName&, uint64_t bytes)>& whole) {
  size_t unknown = 0;
  const Result<std::vector<fs::path>> jobs = entries_of(results_folder(state_folder_));
  if (!jobs) return jobs.failure();
  for (const fs::path& job : *jobs) {
    const Result<std::vector<fs::path>> files = entries_of(job);
    if (!files) return files.failure();
    for (const fs::path& file : *files) {
      const std::optional<ResultName> name = name_of(file);
      if (!name) continue;  // somebody else's
      const bool part = file.extension() == kPart;
      const Standing found = standing(*name);
      std::error_code error;
      // A part is of use to a current lease only, whose worker goes on with it.
      if (found == Standing::kOver || (part && found != Standing::kExpected)) {
        fs::remove(file, error);  // it takes room, and nothing else
      } else if (found == Standing::kUnknown) {
        ++unknown;
      } else if (found == Standing::kExpected && !part) {
        const uint64_t bytes = fs::file_size(file, error);
        if (error)
          return Failure{ErrorKind::kUnavailable, str_cat(file.string(), ": ", error.message())};
        whole(*name, bytes);
      }
    }
    // Fails where files are left in it, and is to.
    std::error_code not_empty;
    fs::remove(job, not_empty);
  }
  return unknown;
}

Result<ResultDraft> ResultFiles::open(const ResultName& name) {
  const std::string results = results_folder(state_folder_);
  const std::string folder = str_cat(results, "/", name.job);
  for (const std::string& one : {results, folder}) {
    if (::mkdir(one.c_str(), S_IRWXU) != 0) {
      if (errno != EEXIST) return disk_failure(one);
      continue;
    }
    Result<void> synced = sync_folder(fs::path(one).parent_path());
    if (!synced) return synced.failure();
  }
  ResultDraft draft(folder, path_in(results, name));
  Result<void> opened = draft.open();
  if (!opened) return opened.failure();
  return draft;
}

void ResultFiles::remove(const ResultName& name) {
  // Under both names: it may have become whole just now. A file that is not there is no error.
  const std::string path = path_in(results_folder(state_folder_), name);
  ::unlink(path.c_str());
  ::unlink((path + std::string(kPart)).c_str());
}

void ResultFiles::remove_job(uint64_t job) {
  std::error_code ignored;
  fs::remove_all(str_cat(results_folder(state_folder_), "/", job), ignored);
}

Result<void> check_room(const std::string& path, uint64_t bytes) {
  struct statvfs disk{};
  if (::statvfs(path.c_str(), &disk) != 0) return {};  // what is written then will say more
  const uint64_t room = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
  if (room >= bytes + ResultFiles::kReserveBytes) return {};
  return Failure{ErrorKind::kUnavailable,
                 str_cat(path, ": no room: only ", format_bytes(room), " are left on the disk")};
}

Result<UniqueFd> open_result_file(const std::string& state_folder, const ResultName& name) {
  const std::string path = path_in(results_folder(state_folder), name);
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (file.valid()) return file;
  // Only what is not there is told as gone: a master that has no descriptor left now may have one
  // later.
  const bool gone = errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EISDIR;
  return Failure{gone ? ErrorKind::kCorrupt : ErrorKind::kUnavailable,
                 str_cat(path, ": ", ::strerror(errno))};
}

Result<void> copy_result_file(const std::string& state_folder, const ResultName& name,
                              const std::string& to_results_folder) {
  const fs::path from = path_in(results_folder(state_folder), name);
  const fs::path to = path_in(to_results_folder, name);
  std::error_code error;
  fs::create_directories(to.parent_path(), error);
  // A link costs no room and no time, and is as good as a copy, because the file never changes.
  if (!error) fs::create_hard_link(from, to, error);
  if (error) {
    error.clear();
    fs::copy_file(from, to, error);
  }
  if (error) return Failure{ErrorKind::kUnavailable, str_cat(from.string(), ": ", error.message())};
  return {};
}

}  // namespace longhaul

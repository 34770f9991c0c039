#include "control/database/engine/files.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "control/database/engine/table.h"

namespace longhaul {

namespace fs = std::filesystem;

std::string database_path(const std::string& folder) {
  return folder + "/master.db";
}

Result<UniqueFd> lock_state_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    return Failure{ErrorKind::kUnavailable,
                   str_cat("state folder ", folder, ": ", error.message())};
  }
  ::chmod(folder.c_str(), S_IRWXU);
  const std::string path = folder + "/lock";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR));
  if (!fd.valid()) {
    return Failure{ErrorKind::kUnavailable, str_cat(path, ": ", ::strerror(errno))};
  }
  // The lock goes with the descriptor: a killed master leaves none behind.
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("state folder ", folder,
                           ": another master uses it; give this one another with --state")};
  }
  return fd;
}

Result<uint64_t> highest_job_in_files(const std::string& folder) {
  uint64_t highest = 0;
  for (const char* kept : {"/results", "/output"}) {
    std::error_code error;
    for (fs::directory_iterator file(folder + kept, error), end; !error && file != end;
         file.increment(error)) {
      std::string name = file->path().stem().string();  // "12", or "j12" of "j12.log"
      if (name.starts_with('j')) name.erase(0, 1);
      uint64_t number = 0;
      const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
      if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size()) continue;
      // A file of somebody else with a huge number must not use up the numbers of jobs.
      if (number < kMostJobs) highest = std::max(highest, number);
    }
    if (error && error != std::errc::no_such_file_or_directory) {
      return Failure{ErrorKind::kUnavailable, str_cat(folder, kept, ": ", error.message())};
    }
  }
  return highest;
}

}  // namespace longhaul

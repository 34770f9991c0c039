#include "control/worker/process/program_check.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string_view>

#include "cluster/jobs/job.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

Failure invalid(const std::string& message) {
  return {ErrorKind::kInvalid, message};
}

Failure cannot_execute(int error_number, const std::string& message) {
  const bool missing = error_number == ENOENT || error_number == ENOTDIR;
  return {missing ? ErrorKind::kUnavailable : ErrorKind::kInvalid, message};
}

// 0, or the errno that stands between us and executing `path`.
int execute_error(const fs::path& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return errno;
  if (S_ISDIR(info.st_mode)) return EISDIR;
  return ::access(path.c_str(), X_OK) == 0 ? 0 : errno;
}

std::string explain(int error_number) {
  if (error_number == ENOENT) return "no such file";
  if (error_number == EACCES) return "not executable";
  if (error_number == EISDIR) return "is a folder, not a program";
  return ::strerror(error_number);
}

Result<fs::path> start_directory(const std::string& directory) {
  std::error_code error;
  const fs::path absolute = fs::absolute(directory.empty() ? "." : directory, error);
  if (error) return invalid(str_cat("working directory ", directory, ": ", error.message()));
  const fs::file_status status = fs::status(absolute, error);
  if (!fs::exists(status))
    return cannot_execute(ENOENT, str_cat("working directory ", directory, ": no such folder"));
  if (!fs::is_directory(status)) {
    return invalid(str_cat("working directory ", directory, ": not a folder"));
  }
  if (::access(absolute.c_str(), X_OK) != 0) {
    return invalid(str_cat("working directory ", directory, ": ", ::strerror(errno)));
  }
  return absolute.lexically_normal();
}

Result<std::string> search_path(const std::string& command, const fs::path& start,
                                const std::string& path) {
  // As a shell does: a file that cannot be executed is passed over, and named only when nothing
  // else is found.
  int refused = 0;
  fs::path refused_at;
  for (const std::string& entry : split(path, ':')) {
    const fs::path candidate = start / entry / command;
    const int error_number = execute_error(candidate);
    if (error_number == 0) return candidate.lexically_normal().string();
    if (error_number == ENOENT || error_number == ENOTDIR || refused != 0) continue;
    refused = error_number;
    refused_at = candidate;
  }
  if (refused != 0) return invalid(str_cat(refused_at.string(), ": ", explain(refused)));
  return cannot_execute(ENOENT, str_cat(command, ": no such program in PATH (", path, ")"));
}

}  // namespace

Result<std::string> find_program(const std::string& command, const std::string& directory,
                                 const std::string& path) {
  if (command.empty()) return invalid("the command is empty");
  const Result<fs::path> start = start_directory(directory);
  if (!start) return start.failure();
  if (command.find('/') == std::string::npos) return search_path(command, *start, path);
  const fs::path absolute = (*start / command).lexically_normal();
  const int error_number = execute_error(absolute);
  if (error_number == 0) return absolute.string();
  const std::string where =
      command.front() == '/' ? "" : str_cat(" (working directory ", start->string(), ")");
  return cannot_execute(error_number, str_cat(command, ": ", explain(error_number), where));
}

int cannot_start_code(const Failure& failure) {
  if (failure.kind == ErrorKind::kExhausted) return kNoRoomCode;
  return failure.kind == ErrorKind::kInvalid ? kNotExecutableCode : kCannotStartCode;
}

}  // namespace longhaul

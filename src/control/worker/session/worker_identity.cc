#include "control/worker/session/worker_identity.h"

#include <filesystem>
#include <optional>
#include <vector>

#include "control/worker/host/host_facts.h"
#include "control/worker/host/small_file.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

// Names the pid namespace too: in another container the same boot of the host has other pids.
std::string this_boot() {
  std::error_code ignored;
  const fs::path pids = fs::read_symlink("/proc/self/ns/pid", ignored);
  return str_cat(boot_id(), " ", pids.string());
}

std::string true_path(const std::string& folder) {
  std::error_code error;
  const fs::path path = fs::canonical(folder, error);
  return error ? folder : path.string();
}

Result<WorkerIdentity> read_identity(const std::string& folder) {
  const Result<std::optional<std::string>> text = read_small_file(identity_file(folder));
  if (!text) return text.failure();
  std::vector<std::string> lines = split(text->value_or(""), '\n');
  lines.resize(3);
  return WorkerIdentity{lines[0], lines[1], lines[2]};
}

}  // namespace

std::string identity_file(const std::string& folder) {
  return folder + "/incarnation";
}

Result<WorkerIdentity> find_identity(const std::string& folder) {
  const Result<WorkerIdentity> found = read_identity(folder);
  if (!found) return found.failure();
  if (found->boot != this_boot()) return WorkerIdentity();
  if (found->folder.empty() || found->folder == true_path(folder)) return found;
  // The folder lies elsewhere than its file says. It was moved, unless the same identity is still
  // there: then it was copied.
  const Result<WorkerIdentity> original = read_identity(found->folder);
  if (!original || *original != *found) return found;
  return Failure{ErrorKind::kInvalid,
                 str_cat("state folder ", folder, " is a copy of ", found->folder,
                         ", which is still there: the worker in it would be taken for that one. "
                         "Give this worker a folder of its own, or remove that one")};
}

Result<void> keep_identity(const std::string& folder, const std::string& incarnation) {
  return write_small_file(identity_file(folder),
                          str_cat(incarnation, "\n", this_boot(), "\n", true_path(folder)));
}

}  // namespace longhaul

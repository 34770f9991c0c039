#include "control/worker/process/folder_remover.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "base/random_id.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

void remove_now(const std::string& folder) {
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

}  // namespace

FolderRemover::FolderRemover(std::string trash)
    : trash_(std::move(trash)),
      // Random, so that no name is one that a killed worker has left there.
      prefix_(str_cat(trash_, "/", random_number(), "-")),
      thread_("lh-remove", [this] {
        while (const auto folder = folders_.pop()) remove_now(*folder);
      }) {
  std::error_code error;
  for (const auto& left : fs::directory_iterator(trash_, error)) {
    folders_.push(left.path().string());
  }
}

FolderRemover::~FolderRemover() {
  folders_.close();
  thread_.join();
  std::error_code ignored;
  fs::remove(trash_, ignored);
}

void FolderRemover::remove(const std::string& folder) {
  std::error_code error;
  fs::create_directories(trash_, error);
  const std::string place = str_cat(prefix_, ++count_);
  fs::rename(folder, place, error);
  // On a full disk there may be no room for the trash folder or for another name in it. Then the
  // folder is removed here, whatever it takes. A folder that is not there fails too, and costs
  // nothing.
  if (error) return remove_now(folder);
  folders_.push(place);
}

}  // namespace longhaul

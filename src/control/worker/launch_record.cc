#include "control/worker/launch_record.h"

#include <fcntl.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <google/protobuf/util/delimited_message_util.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "control/worker/small_file.h"
#include "longhaul/base/strings.h"
#include "longhaul/base/unique_fd.h"

namespace longhaul {

namespace fs = std::filesystem;

namespace {

// A rank that reports fault after fault does not fill the disk with them: the first one counts.
constexpr off_t kMaxEventBytes = 1 << 20;

}  // namespace

LaunchRecord::LaunchRecord(const std::string& spool_folder, const LaunchId& id)
    : folder_(str_cat(spool_folder, "/", id.job, "-", id.generation)) {
  if (id.life != 0) folder_ += str_cat("-", std::hex, id.life);
}

std::vector<LaunchRecord> LaunchRecord::find(const std::string& spool_folder) {
  std::vector<LaunchRecord> records;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(spool_folder, ignored)) {
    records.push_back(LaunchRecord(entry.path().string()));
  }
  return records;
}

std::string LaunchRecord::rank_folder(int local_rank) const {
  return str_cat(folder_, "/rank-", local_rank);
}

Result<void> LaunchRecord::create(const v1::Launch& request) const {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) return Failure{ErrorKind::kUnavailable, str_cat(folder_, ": ", error.message())};
  return write_small_file(folder_ + "/launch", request.SerializeAsString());
}

std::optional<v1::Launch> LaunchRecord::read() const {
  const std::optional<std::string> bytes = read_small_file(folder_ + "/launch");
  v1::Launch request;
  if (!bytes || !request.ParseFromString(*bytes)) return std::nullopt;
  const LaunchRecord own(fs::path(folder_).parent_path().string(),
                         {request.job_id(), request.generation(), request.life()});
  if (own.folder() != folder_) return std::nullopt;
  return request;
}

void LaunchRecord::add_event(const v1::RankEvent& event) const {
  const UniqueFd fd(::open((folder_ + "/events").c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC,
                           S_IRUSR | S_IWUSR));
  struct stat info{};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0 || info.st_size > kMaxEventBytes) return;
  google::protobuf::util::SerializeDelimitedToFileDescriptor(event, fd.get());
}

std::vector<v1::RankEvent> LaunchRecord::events() const {
  std::vector<v1::RankEvent> events;
  const UniqueFd fd(::open((folder_ + "/events").c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return events;
  google::protobuf::io::FileInputStream stream(fd.get());
  // The last one may have been cut off: it was not told to anybody either.
  for (v1::RankEvent event;
       google::protobuf::util::ParseDelimitedFromZeroCopyStream(&event, &stream, nullptr);) {
    events.push_back(std::move(event));
    event.Clear();
  }
  return events;
}

void LaunchRecord::remove_rank(int local_rank) const {
  std::error_code ignored;
  fs::remove_all(rank_folder(local_rank), ignored);
}

void LaunchRecord::remove() const {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace longhaul

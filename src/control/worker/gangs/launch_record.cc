#include "control/worker/gangs/launch_record.h"

#include <fcntl.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/delimited_message_util.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "base/log.h"
#include "base/unique_fd.h"
#include "control/worker/host/small_file.h"
#include "longhaul/base/strings.h"

namespace longhaul {

namespace fs = std::filesystem;

namespace {

// A rank may report fault after fault. The file is bounded, so that they do not fill the disk; the
// first fault is the one that counts.
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

std::string LaunchRecord::process_folder(int local_rank) const {
  return str_cat(folder_, "/rank-", local_rank);
}

Result<void> LaunchRecord::create(const v1::Launch& request) const {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) return Failure{ErrorKind::kUnavailable, str_cat(folder_, ": ", error.message())};
  return write_small_file(folder_ + "/launch", request.SerializeAsString());
}

Result<std::optional<v1::Launch>> LaunchRecord::read() const {
  const Result<std::optional<std::string>> bytes = read_small_file(folder_ + "/launch");
  if (!bytes && bytes.failure().kind == ErrorKind::kExhausted) return bytes.failure();
  std::optional<v1::Launch> request(std::in_place);
  if (!bytes || !*bytes || !request->ParseFromString(**bytes)) return std::optional<v1::Launch>();
  // The request in a folder that was copied or renamed names another launch: the ranks of that one
  // are not here.
  const LaunchRecord own(fs::path(folder_).parent_path().string(),
                         {request->job_id(), request->generation(), request->life()});
  if (own.folder() != folder_) return std::optional<v1::Launch>();
  return request;
}

void LaunchRecord::add_event(const v1::RankEvent& event) const {
  // Errors are ignored: the event is sent to the master all the same, and is lost only if this
  // worker is killed before the master has confirmed it. Ranks run as the same user, so anything
  // may lie in the file's place: no link is followed and no pipe is waited for.
  const UniqueFd fd(::open((folder_ + "/events").c_str(),
                           O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
                           S_IRUSR | S_IWUSR));
  struct stat info{};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return;
  if (info.st_size + static_cast<off_t>(event.ByteSizeLong()) > kMaxEventBytes) return;
  google::protobuf::util::SerializeDelimitedToFileDescriptor(event, fd.get());
}

std::vector<v1::RankEvent> LaunchRecord::events() const {
  std::vector<v1::RankEvent> events;
  const Result<std::optional<std::string>> bytes =
      read_small_file(folder_ + "/events", 2 * kMaxEventBytes);
  if (!bytes) log(LogLevel::kWarning, "worker", "lost events of ranks: ", bytes.failure().message);
  if (!bytes || !*bytes) return events;
  google::protobuf::io::ArrayInputStream stream((*bytes)->data(),
                                                static_cast<int>((*bytes)->size()));
  // The last one may be cut off, where the worker was killed while it wrote: an event is told only
  // after it was written, so nobody has heard of that one.
  for (v1::RankEvent event;
       google::protobuf::util::ParseDelimitedFromZeroCopyStream(&event, &stream, nullptr);) {
    events.push_back(std::move(event));
    event.Clear();
  }
  return events;
}

void LaunchRecord::remove() const {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace longhaul

#include "control/worker/output/spool_reader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/descriptors.h"
#include "longhaul/base/strings.h"

namespace longhaul {

SpoolReader::SpoolReader(const ProcessFolder& folder, int stream)
    : stream_(&folder.ledger().streams[stream]),
      folder_(&folder),
      number_(stream),
      name_(stream == 0 ? "stdout." : "stderr.") {}

uint64_t SpoolReader::end() const {
  return stream_ == nullptr ? 0 : stream_->end.load(std::memory_order_acquire);
}

uint64_t SpoolReader::acknowledged() const {
  return stream_ == nullptr ? 0 : stream_->acknowledged.load(std::memory_order_relaxed);
}

std::string SpoolReader::segment_name(uint64_t start) const {
  return str_cat(name_, start);
}

void SpoolReader::note_trouble(int error_number) {
  if (is_passing(error_number)) trouble_ = str_cat("its spool: ", ::strerror(error_number));
}

// The starts of those on disk, sorted.
std::vector<uint64_t> SpoolReader::segments() {
  std::vector<uint64_t> starts;
  const int fd = ::openat(folder_->fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const folder = fd < 0 ? nullptr : ::fdopendir(fd);
  if (folder == nullptr) {
    note_trouble(errno);
    if (fd >= 0) ::close(fd);
    return starts;
  }
  while (const dirent* entry = ::readdir(folder)) {
    const std::string_view file = entry->d_name;
    if (!file.starts_with(name_)) continue;
    uint64_t start = 0;
    const char* last = file.data() + file.size();
    const auto parsed = std::from_chars(file.data() + name_.size(), last, start);
    if (parsed.ec == std::errc() && parsed.ptr == last) starts.push_back(start);
  }
  ::closedir(folder);
  std::sort(starts.begin(), starts.end());
  return starts;
}

std::string SpoolReader::read(uint64_t& offset, size_t max) {
  // The writer moves the end after it has written. So what lies before it is on disk, or gone for
  // ever.
  const uint64_t limit = end();
  trouble_.clear();
  while (offset < limit) {
    std::string data = read_segment(offset, std::min<uint64_t>(max, limit - offset));
    if (!data.empty()) return data;
    const uint64_t next = open_from(offset, limit);
    // What cannot be opened now is not gone: the offset stays, and the caller tries again.
    if (!trouble_.empty()) return "";
    offset = next;
  }
  return "";
}

std::string SpoolReader::read_segment(uint64_t offset, uint64_t max) const {
  if (!segment_.valid() || offset < segment_start_) return "";
  std::string data(max, '\0');
  const ssize_t size = ::pread(segment_.get(), data.data(), data.size(),
                               static_cast<off_t>(offset - segment_start_));
  data.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return data;
}

// The rank may have put anything in its place. Only a regular file is read, no link is followed,
// and opening a pipe does not wait.
UniqueFd SpoolReader::open_segment(uint64_t start) {
  UniqueFd fd(::openat(folder_->fd(), segment_name(start).c_str(),
                       O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat info{};
  if (!fd.valid()) {
    note_trouble(errno);
  } else if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    fd.reset();
  }
  return fd;
}

// Opens the segment that holds `offset`, or the first one behind it. Returns where reading goes on;
// `limit` when there is nothing more.
uint64_t SpoolReader::open_from(uint64_t offset, uint64_t limit) {
  const std::vector<uint64_t> starts = segments();
  auto next = std::upper_bound(starts.begin(), starts.end(), offset);
  if (next != starts.begin()) --next;
  for (; next != starts.end() && *next < limit; ++next) {
    // A segment that the writer has just dropped cannot be opened, and one that ends before
    // `offset` has nothing to read; both are passed over.
    segment_.reset();  // first: it may be the last descriptor
    segment_ = open_segment(*next);
    segment_start_ = *next;
    if (!trouble_.empty()) break;
    const uint64_t from = std::max(offset, *next);
    if (segment_.valid() && !read_segment(from, 1).empty()) return from;
  }
  segment_.reset();
  return limit;
}

std::string SpoolReader::tail() {
  const uint64_t limit = end();
  uint64_t offset = limit - std::min(limit, kTailBytes);
  std::string text;
  while (offset < limit) {
    const std::string piece = read(offset, kTailBytes);
    if (piece.empty()) break;
    text += piece;
    offset += piece.size();
  }
  return text;
}

void SpoolReader::acknowledge(uint64_t offset) {
  if (stream_ == nullptr || offset <= acknowledged()) return;
  folder_->set_acknowledged(number_, offset);
  const uint64_t limit = end();
  const uint64_t needed_from = std::min(offset, limit - std::min(limit, kTailBytes));
  // Most acknowledgements free no segment, and listing the folder for each would cost too much.
  if (needed_from >= trim_at_) trim(needed_from, limit);
}

// Removes the segments that end before `needed_from`, never the last one: the shim may be writing
// to it.
void SpoolReader::trim(uint64_t needed_from, uint64_t limit) {
  trim_at_ = limit;  // a segment that begins later is not looked for earlier
  const std::vector<uint64_t> starts = segments();
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    if (starts[i + 1] > needed_from) {
      trim_at_ = starts[i + 1];
      return;
    }
    ::unlinkat(folder_->fd(), segment_name(starts[i]).c_str(), 0);
  }
}

}  // namespace longhaul

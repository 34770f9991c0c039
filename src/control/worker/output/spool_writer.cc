#include "control/worker/output/spool_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace longhaul {

SpoolWriter::SpoolWriter(int folder_fd, std::string name, ProcessLedger::Stream& stream,
                         uint64_t max_bytes)
    : folder_fd_(folder_fd),
      name_(std::move(name)),
      stream_(stream),
      max_bytes_(max_bytes),
      segment_bytes_(max_bytes / kSegments) {}

SpoolWriter::~SpoolWriter() {
  close_segment();
}

std::string SpoolWriter::file_name(uint64_t start) const {
  return name_ + "." + std::to_string(start);
}

void SpoolWriter::append(const char* data, size_t size) {
  while (size > 0) {
    const size_t written = write(data, size);
    if (written == 0) break;
    end_ += written;
    data += written;
    size -= written;
    stream_.end.store(end_, std::memory_order_release);
  }
  if (size == 0) return;
  // The disk takes no more, so the rest is lost. A segment has no gaps inside: what comes next
  // begins a new one at its own offset.
  close_segment();
  end_ += size;
  stream_.end.store(end_, std::memory_order_release);
}

// Returns how many bytes are on disk now; 0: none can be written.
size_t SpoolWriter::write(const char* data, size_t size) {
  if (fd_ >= 0 && end_ - starts_.back() >= segment_bytes_) close_segment();
  const bool fresh = fd_ < 0;
  if (fresh && !open_segment()) return 0;
  const size_t room = static_cast<size_t>(segment_bytes_ - (end_ - starts_.back()));
  ssize_t written = 0;
  do {
    written = ::write(fd_, data, std::min(size, room));
  } while (written < 0 && errno == EINTR);
  if (written > 0) return static_cast<size_t>(written);
  if (fresh) {
    // A full disk may refuse piece after piece, and each would leave an empty file.
    ::unlinkat(folder_fd_, file_name(starts_.back()).c_str(), 0);
    starts_.pop_back();
  }
  return 0;
}

bool SpoolWriter::open_segment() {
  drop_oldest();
  // Whatever the rank has put there under this name is removed. Only a file that was made here is
  // written to: a pipe, say, would make the shim wait for a reader.
  const std::string name = file_name(end_);
  (void)::unlinkat(folder_fd_, name.c_str(), 0);
  fd_ = ::openat(folder_fd_, name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_APPEND | O_CLOEXEC,
                 S_IRUSR | S_IWUSR);
  if (fd_ < 0) return false;
  starts_.push_back(end_);
  return true;
}

void SpoolWriter::close_segment() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

// Makes room for a segment. The worker may have removed the files already, when the master had
// them; then unlinkat() fails, and nothing is wrong.
void SpoolWriter::drop_oldest() {
  while (!starts_.empty() && end_ + segment_bytes_ - starts_.front() > max_bytes_) {
    ::unlinkat(folder_fd_, file_name(starts_.front()).c_str(), 0);
    starts_.pop_front();
  }
}

}  // namespace longhaul

#include "control/worker/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "longhaul/base/log.h"
#include "longhaul/base/strings.h"

namespace longhaul {

Spool::~Spool() {
  for (uint64_t segment = begin_ / kSegmentBytes; segment <= end_ / kSegmentBytes; ++segment) {
    ::unlink(segment_path(segment).c_str());
  }
}

std::string Spool::segment_path(uint64_t segment) const {
  return str_cat(path_, ".", segment);
}

void Spool::append(std::string_view data) {
  while (!data.empty()) {
    const uint64_t room = kSegmentBytes - end_ % kSegmentBytes;
    const std::string_view part = data.substr(0, room);
    if (!write(part) && !complained_) {
      complained_ = true;
      log(LogLevel::kError, "worker", "output is being lost: ", segment_path(write_segment_), ": ",
          ::strerror(errno));
    }
    end_ += part.size();
    data.remove_prefix(part.size());
  }
  if (end_ - begin_ > kMaxBytes) trim(end_ - kMaxBytes + kSegmentBytes - 1);
}

bool Spool::write(std::string_view data) {
  const uint64_t segment = end_ / kSegmentBytes;
  if (!write_fd_.valid() || segment != write_segment_) {
    write_segment_ = segment;
    write_fd_.reset(
        ::open(segment_path(segment).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, S_IRUSR | S_IWUSR));
    if (!write_fd_.valid()) return false;
  }
  const auto at = static_cast<off_t>(end_ % kSegmentBytes);
  return ::pwrite(write_fd_.get(), data.data(), data.size(), at) ==
         static_cast<ssize_t>(data.size());
}

std::string Spool::read(uint64_t& offset, size_t max) const {
  offset = std::max(offset, begin_);
  while (offset < end_) {
    const uint64_t segment = offset / kSegmentBytes;
    const uint64_t segment_end = std::min(end_, (segment + 1) * kSegmentBytes);
    std::string data(std::min<uint64_t>(max, segment_end - offset), '\0');
    const UniqueFd fd(::open(segment_path(segment).c_str(), O_RDONLY | O_CLOEXEC));
    const ssize_t size =
        ::pread(fd.get(), data.data(), data.size(), static_cast<off_t>(offset % kSegmentBytes));
    if (size > 0) {
      data.resize(static_cast<size_t>(size));
      return data;
    }
    offset = segment_end;  // the disk has lost it
  }
  return "";
}

void Spool::trim(uint64_t offset) {
  const uint64_t first_kept = std::min(offset, end_) / kSegmentBytes;
  for (uint64_t segment = begin_ / kSegmentBytes; segment < first_kept; ++segment) {
    ::unlink(segment_path(segment).c_str());
    begin_ = (segment + 1) * kSegmentBytes;
  }
}

}  // namespace longhaul

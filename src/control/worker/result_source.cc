#include "control/worker/result_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace longhaul {

ResultSource::ResultSource(const RankFolder& folder) {
  UniqueFd file(::open(path_in(folder).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info{};
  if (file.valid() && ::fstat(file.get(), &info) == 0 && S_ISREG(info.st_mode)) {
    size_ = static_cast<uint64_t>(info.st_size);
    file_ = std::move(file);
  } else {
    size_ = printed_.emplace(folder, 0).end();
  }
}

std::string ResultSource::read(uint64_t offset, size_t max) {
  std::string bytes;
  while (bytes.size() < max) {
    std::string piece;
    if (printed_) {
      uint64_t at = offset + bytes.size();
      piece = printed_->read(at, max - bytes.size());
      if (at != offset + bytes.size()) break;  // what lay before it is lost
    } else {
      piece.resize(max - bytes.size());
      const ssize_t read = ::pread(file_->get(), piece.data(), piece.size(),
                                   static_cast<off_t>(offset + bytes.size()));
      piece.resize(read > 0 ? static_cast<size_t>(read) : 0);
    }
    if (piece.empty()) break;
    bytes += piece;
  }
  return bytes;
}

}  // namespace longhaul

#include "control/worker/spool_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iterator>
#include <string_view>

#include "longhaul/base/strings.h"

namespace longhaul {

SpoolReader::SpoolReader(const RankFolder& folder, int stream)
    : stream_(&folder.ledger().streams[stream]),
      folder_(folder.path()),
      name_(stream == 0 ? "stdout." : "stderr.") {}

uint64_t SpoolReader::end() const {
  return stream_ == nullptr ? 0 : stream_->end.load(std::memory_order_acquire);
}

uint64_t SpoolReader::acknowledged() const {
  return stream_ == nullptr ? 0 : stream_->acknowledged.load(std::memory_order_relaxed);
}

std::string SpoolReader::segment_path(uint64_t start) const {
  return str_cat(folder_, "/", name_, start);
}

// The starts of those on disk, sorted.
std::vector<uint64_t> SpoolReader::segments() const {
  std::vector<uint64_t> starts;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, ignored)) {
    const std::string file = entry.path().filename();
    if (!file.starts_with(name_)) continue;
    uint64_t start = 0;
    const char* last = file.data() + file.size();
    const auto parsed = std::from_chars(file.data() + name_.size(), last, start);
    if (parsed.ec == std::errc() && parsed.ptr == last) starts.push_back(start);
  }
  std::sort(starts.begin(), starts.end());
  return starts;
}

std::string SpoolReader::read(uint64_t& offset, size_t max) {
  // Everything before it is on disk, or gone for ever: the writer moves it last.
  const uint64_t limit = end();
  while (offset < limit) {
    std::string data = read_segment(offset, std::min<uint64_t>(max, limit - offset));
    if (!data.empty()) return data;
    offset = open_from(offset, limit);
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

// Opens the segment that holds `offset`, or the first one behind it. Returns where reading goes on;
// `limit` when there is nothing more.
uint64_t SpoolReader::open_from(uint64_t offset, uint64_t limit) {
  const std::vector<uint64_t> starts = segments();
  auto next = std::upper_bound(starts.begin(), starts.end(), offset);
  if (next != starts.begin()) --next;
  for (; next != starts.end() && *next < limit; ++next) {
    // One that has just been dropped is not there, one that ends before `offset` has nothing.
    segment_.reset(::open(segment_path(*next).c_str(), O_RDONLY | O_CLOEXEC));
    segment_start_ = *next;
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
  stream_->acknowledged.store(offset, std::memory_order_relaxed);
  const uint64_t limit = end();
  const uint64_t needed_from = std::min(offset, limit - std::min(limit, kTailBytes));
  if (needed_from >= trim_at_) trim(needed_from, limit);
}

// Removes the segments that end before `needed_from`.
void SpoolReader::trim(uint64_t needed_from, uint64_t limit) {
  trim_at_ = limit;  // a segment that begins later is not looked for earlier
  const std::vector<uint64_t> starts = segments();
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    if (starts[i + 1] > needed_from) {
      trim_at_ = starts[i + 1];
      return;
    }
    ::unlink(segment_path(starts[i]).c_str());
  }
}

}  // namespace longhaul

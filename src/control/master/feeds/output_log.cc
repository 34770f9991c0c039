#include "control/master/feeds/output_log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <optional>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "longhaul/base/strings.h"
#include "wire/checksum.h"

namespace longhaul {
namespace {

using std::string_view_literals::operator""sv;

constexpr uint32_t kMaxEntry = 16 << 20;  // no message of a worker is larger
constexpr std::string_view kHead = "LHOUT2\n\0"sv;
constexpr std::string_view kMark = "lho\x02"sv;
constexpr size_t kEntryHead = kMark.size() + sizeof(uint32_t) + sizeof(uint64_t);
constexpr size_t kWriteBytes = size_t{1} << 20;
// Endings of files that are to take the log's place. There are two, because rewrite() may make one
// on the owner thread while a draft is being written on another.
constexpr const char* kDraft = ".new";
constexpr const char* kOther = ".now";

uint64_t checksum_of(std::string_view bytes) {
  Checksum checksum;
  checksum.update(bytes);
  return checksum.value();
}

template <typename Number>
Number number_at(std::string_view bytes, size_t at) {
  Number number = 0;
  ::memcpy(&number, bytes.data() + at, sizeof(number));
  return number;
}

void append_entry(const v1::Output& output, std::string* bytes) {
  const std::string content = output.SerializeAsString();
  const auto size = static_cast<uint32_t>(content.size());
  const uint64_t checksum = checksum_of(content);
  bytes->append(kMark);
  bytes->append(reinterpret_cast<const char*>(&size), sizeof(size));
  bytes->append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  bytes->append(content);
}

struct Found {
  v1::Output output;
  size_t end = 0;
};

std::optional<Found> entry_at(std::string_view bytes, size_t at) {
  if (bytes.size() - at < kEntryHead || bytes.substr(at, kMark.size()) != kMark) return {};
  const auto size = number_at<uint32_t>(bytes, at + kMark.size());
  const auto checksum = number_at<uint64_t>(bytes, at + kMark.size() + sizeof(size));
  if (size > kMaxEntry || size > bytes.size() - at - kEntryHead) return {};
  const std::string_view content = bytes.substr(at + kEntryHead, size);
  Found found;
  if (checksum_of(content) != checksum ||
      !found.output.ParseFromArray(content.data(), static_cast<int>(size))) {
    return {};
  }
  found.end = at + kEntryHead + size;
  return found;
}

struct Contents {
  std::vector<v1::Output> entries;
  size_t left_out = 0;  // bytes that are no whole entry
};

Contents read(std::string_view bytes) {
  Contents contents;
  for (size_t at = kHead.size(); at < bytes.size();) {
    if (std::optional<Found> found = entry_at(bytes, at)) {
      contents.entries.push_back(std::move(found->output));
      at = found->end;
      continue;
    }
    // Damage: on from the next mark. Bytes that only look like a mark fail at the checksum.
    const size_t next = std::min(bytes.find(kMark, at + 1), bytes.size());
    contents.left_out += next - at;
    at = next;
  }
  return contents;
}

Contents read_old(std::string_view bytes) {
  Contents contents;
  size_t at = 0;
  while (bytes.size() - at >= sizeof(uint32_t)) {
    const auto size = number_at<uint32_t>(bytes, at);
    v1::Output output;
    if (size > kMaxEntry || size > bytes.size() - at - sizeof(size) ||
        !output.ParseFromArray(bytes.data() + at + sizeof(size), static_cast<int>(size))) {
      break;
    }
    contents.entries.push_back(std::move(output));
    at += sizeof(size) + size;
  }
  contents.left_out = bytes.size() - at;
  return contents;
}

}  // namespace

bool OutputLog::open(int flags) {
  fd_.reset(
      ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | flags, S_IRUSR | S_IWUSR));
  return fd_.valid();
}

// What lies there cannot be read, so it is not known what may be written behind it: it is left as
// it is, and what comes is kept in memory only.
void OutputLog::give_up(const std::string& why) {
  log(LogLevel::kError, "master", path_, ": ", why, "; its output is kept in memory only");
  fd_.reset();
  path_.clear();
}

// False: it cannot be read, which is not the same as that there is nothing.
bool OutputLog::read_all(std::string* bytes) {
  const UniqueFd file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return errno == ENOENT;
  struct stat info{};
  if (::fstat(file.get(), &info) != 0) return false;
  bytes->resize(static_cast<size_t>(info.st_size));
  size_t have = 0;
  while (have < bytes->size()) {
    const ssize_t read = ::read(file.get(), bytes->data() + have, bytes->size() - have);
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) return false;
    if (read == 0) break;
    have += static_cast<size_t>(read);
  }
  bytes->resize(have);
  return true;
}

// The file as it was stays beside the one that takes its place: somebody may want what is left.
void OutputLog::keep_damaged(size_t left_out, size_t bytes) {
  const std::string copy = path_ + ".damaged";
  ::unlink(copy.c_str());
  // A link is enough: rewrite() puts another file in the log's place and leaves this one as it is.
  const bool kept = ::link(path_.c_str(), copy.c_str()) == 0;
  log(LogLevel::kWarning, "master", path_, ": ", left_out, " of ", bytes,
      " bytes are no whole entries and are passed over", kept ? "; all of it is in " : "",
      kept ? copy : "");
}

std::vector<v1::Output> OutputLog::load() {
  if (path_.empty()) return {};
  // A crash may have left drafts; none of them was ever the log.
  for (const char* unfinished : {kDraft, kOther}) ::unlink((path_ + unfinished).c_str());
  std::string bytes;
  if (!read_all(&bytes)) {
    give_up(::strerror(errno));
    return {};
  }
  const bool ours = bytes.starts_with(kHead);
  Contents contents = ours ? read(bytes) : read_old(bytes);
  bytes_ = bytes.size();
  if ((ours && contents.left_out == 0) || bytes.empty()) {
    open(0);
    return std::move(contents.entries);
  }
  if (contents.left_out > 0) keep_damaged(contents.left_out, bytes.size());
  std::vector<Entry> whole;
  whole.reserve(contents.entries.size());
  for (const v1::Output& one : contents.entries) {
    whole.push_back(std::make_shared<v1::Output>(one));
  }
  if (!rewrite(whole)) {
    // A file of this version can be written on, behind its damage. One of the older form cannot:
    // then nothing is kept in this life of the master.
    if (ours || bytes.empty())
      open(0);
    else
      path_.clear();
  }
  return std::move(contents.entries);
}

// Writes all of `bytes` or nothing: what was written in part is cut off again.
bool OutputLog::write(const std::string& bytes) {
  if (!fd_.valid()) open(0);
  const ssize_t written = fd_.valid() ? ::write(fd_.get(), bytes.data(), bytes.size()) : -1;
  if (written == static_cast<ssize_t>(bytes.size())) {
    bytes_ += bytes.size();
    complained_ = false;
    return true;
  }
  // A write that was cut short is one that found no room for the rest.
  const int error = written < 0 ? errno : ENOSPC;
  // load() passes over half an entry, but it takes room, and what is appended next would come
  // behind it.
  if (written > 0 && ::ftruncate(fd_.get(), static_cast<off_t>(bytes_)) != 0) fd_.reset();
  const bool full = error == ENOSPC || error == EDQUOT;
  if (!complained_) {
    log(LogLevel::kError, "master", path_, ": ", ::strerror(error),
        full ? "; waiting for room" : "; output is kept in memory only");
  }
  complained_ = true;
  errno = error;
  return false;
}

bool OutputLog::append(const v1::Output& output) {
  if (path_.empty()) return true;
  std::string entry(bytes_ == 0 ? kHead : "");
  append_entry(output, &entry);
  // Room may come; what an error of the disk has refused would be refused again, and hold up all
  // that comes behind it.
  return write(entry) || (errno != ENOSPC && errno != EDQUOT);
}

OutputLog OutputLog::draft(const std::vector<Entry>& entries, const char* ending) const {
  OutputLog draft(path_ + ending);
  bool whole = draft.open(O_TRUNC);
  std::string bytes(kHead);
  for (size_t i = 0; whole && i < entries.size(); ++i) {
    append_entry(*entries[i], &bytes);
    if (bytes.size() < kWriteBytes) continue;
    whole = draft.write(bytes);
    bytes.clear();
  }
  if (whole && !bytes.empty()) whole = draft.write(bytes);
  if (!whole) draft.remove();
  return whole ? std::move(draft) : OutputLog("");
}

OutputLog OutputLog::draft(const std::vector<Entry>& entries) const {
  return draft(entries, kDraft);
}

bool OutputLog::replace_by(OutputLog draft) {
  if (!draft.keeps()) return false;
  if (::rename(draft.path_.c_str(), path_.c_str()) != 0) {
    draft.remove();
    return false;
  }
  fd_ = std::move(draft.fd_);
  bytes_ = draft.bytes_;
  complained_ = false;
  return true;
}

bool OutputLog::rewrite(const std::vector<Entry>& entries) {
  return path_.empty() || replace_by(draft(entries, kOther));
}

void OutputLog::remove() {
  fd_.reset();
  bytes_ = 0;
  if (!path_.empty()) ::unlink(path_.c_str());
}

}  // namespace longhaul

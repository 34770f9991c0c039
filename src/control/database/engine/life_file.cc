#include "control/database/engine/life_file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <string_view>

#include "base/random_id.h"
#include "base/unique_fd.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr std::string_view kFirstWord = "longhaul-life";
constexpr size_t kMostBytes = 512;

std::string path_in(const std::string& folder) {
  return folder + "/life";
}

Failure disk_failure(const std::string& path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  return {full ? ErrorKind::kExhausted : ErrorKind::kUnavailable,
          str_cat(path, ": ", ::strerror(error))};
}

std::optional<uint64_t> number_of(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string hex(uint64_t number) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number, 16).ptr;
  return {digits.data(), end};
}

// longhaul-life LIFE INODE BORN SEAL [SEAL]
std::string text_of(const LifeFile& file) {
  std::vector<std::string> words = {std::string(kFirstWord), hex(file.life), hex(file.inode),
                                    hex(file.born_ns)};
  for (const uint64_t seal : file.seals) words.push_back(hex(seal));
  return join(words, " ") + "\n";
}

std::optional<LifeFile> parse(std::string_view text) {
  if (!text.ends_with('\n')) return std::nullopt;
  text.remove_suffix(1);
  const std::vector<std::string> words = split(text, ' ');
  if (words.size() < 5 || words.size() > 6 || words[0] != kFirstWord) return std::nullopt;
  std::vector<uint64_t> numbers;
  for (size_t word = 1; word < words.size(); ++word) {
    const std::optional<uint64_t> number = number_of(words[word]);
    if (!number) return std::nullopt;
    numbers.push_back(*number);
  }
  return LifeFile{numbers[0], {numbers.begin() + 3, numbers.end()}, numbers[1], numbers[2]};
}

Result<void> write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return disk_failure(path, wrote < 0 ? errno : ENOSPC);
    text.remove_prefix(static_cast<size_t>(wrote));
  }
  return {};
}

}  // namespace

std::optional<std::string> why_new_life(const DatabaseLife& database,
                                        const std::optional<LifeFile>& file) {
  if (database.life == 0) return "the database is new, or a backup, or of an older version";
  if (!file) return "the file 'life' is not beside the database, which was put here from elsewhere";
  if (file->life != database.life ||
      std::ranges::find(file->seals, database.seal) == file->seals.end()) {
    return "the database is not the one that was used here last: it was put back from a copy";
  }
  // Inodes are used again for new files, times of birth are not: so these decide where both are
  // known.
  const bool births_known = database.born_ns != 0 && file->born_ns != 0;
  const bool same_file =
      births_known ? database.born_ns == file->born_ns : database.inode == file->inode;
  if (!same_file) {
    return "the database is a copy of the one that was used last";
  }
  return std::nullopt;
}

Result<std::optional<LifeFile>> read_life_file(const std::string& folder) {
  const std::string path = path_in(folder);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid() && errno == ENOENT) return std::optional<LifeFile>();
  if (!fd.valid()) return disk_failure(path, errno);
  // A line far shorter than this: one read gives all of it, and one that is longer is not ours.
  std::string text(kMostBytes, '\0');
  ssize_t read = 0;
  do {
    read = ::read(fd.get(), text.data(), text.size());
  } while (read < 0 && errno == EINTR);
  if (read < 0) return disk_failure(path, errno);
  text.resize(static_cast<size_t>(read));
  std::optional<LifeFile> file = parse(text);
  if (file) return file;
  return Failure{ErrorKind::kCorrupt,
                 str_cat(path, ": cannot be understood; `longhaul-master new-life` removes it")};
}

Result<void> write_life_file(const std::string& folder, const LifeFile& file) {
  const std::string path = path_in(folder);
  const std::string draft = path + ".new";
  const UniqueFd fd(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                           S_IRUSR | S_IWUSR));
  if (!fd.valid()) return disk_failure(draft, errno);
  Result<void> written = write_all(fd.get(), text_of(file), draft);
  // Synced before it gets its name: after a power failure there is the old file or the new one.
  if (written && ::fsync(fd.get()) != 0) written = disk_failure(draft, errno);
  if (written && ::rename(draft.c_str(), path.c_str()) != 0) written = disk_failure(path, errno);
  if (!written) {
    ::unlink(draft.c_str());
    return written;
  }
  const UniqueFd parent(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.valid() || ::fsync(parent.get()) != 0) return disk_failure(folder, errno);
  return {};
}

Result<void> remove_life_file(const std::string& folder) {
  const std::string path = path_in(folder);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return disk_failure(path, errno);
  return {};
}

Result<void> identify(const std::string& path, DatabaseLife* database) {
  struct statx file{};
  if (::statx(AT_FDCWD, path.c_str(), 0, STATX_INO | STATX_BTIME, &file) != 0) {
    return disk_failure(path, errno);
  }
  database->inode = file.stx_ino;
  if ((file.stx_mask & STATX_BTIME) != 0) {
    database->born_ns =
        static_cast<uint64_t>(file.stx_btime.tv_sec) * 1'000'000'000 + file.stx_btime.tv_nsec;
  }
  return {};
}

uint64_t random_life() {
  while (true) {
    // Half of the 64 bits' range, so that SQLite's signed integers hold it. 0 means "no life".
    if (const uint64_t life = random_number() >> 1; life != 0) return life;
  }
}

}  // namespace longhaul

#include "control/database/clock_mark.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <string_view>

#include "base/mix.h"
#include "base/unique_fd.h"

namespace longhaul {

int64_t this_start() {
  const UniqueFd file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  std::array<char, 64> id{};
  const ssize_t bytes = file.valid() ? ::read(file.get(), id.data(), id.size()) : -1;
  if (bytes <= 0) return 0;
  uint64_t mixed = 0;
  for (const char one : std::string_view(id.data(), static_cast<size_t>(bytes))) {
    mixed = mix64(mixed ^ static_cast<unsigned char>(one));
  }
  // Not negative, as the database's numbers are signed; 0 is kept for "not known", and as good as
  // never comes.
  return static_cast<int64_t>(mixed >> 1);
}

milliseconds clock_shift(const ClockMark& last, const ClockMark& now) {
  // The same boot, and the clock has not gone back: what was kept is true as it stands. Otherwise
  // moments keep their distance from the last mark, and the time since is not counted.
  const bool goes_on =
      last.host_start != 0 && last.host_start == now.host_start && last.ms <= now.ms;
  return milliseconds(goes_on || last.ms == 0 ? 0 : now.ms - last.ms);
}

}  // namespace longhaul

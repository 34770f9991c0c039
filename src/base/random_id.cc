#include "base/random_id.h"

#include <errno.h>
#include <sys/random.h>

#include <array>

#include "base/check.h"

namespace longhaul {

void fill_random(void* bytes, size_t size) {
  auto* at = static_cast<char*>(bytes);
  while (size > 0) {
    const ssize_t got = ::getrandom(at, size, 0);
    // Interrupted early in the boot of a host, when it may wait; nothing else can fail.
    if (got < 0 && errno == EINTR) continue;
    LONGHAUL_CHECK(got > 0);
    at += got;
    size -= static_cast<size_t>(got);
  }
}

uint64_t random_number() {
  uint64_t number = 0;
  fill_random(&number, sizeof(number));
  return number;
}

std::string random_id() {
  std::array<uint8_t, 16> bytes{};
  fill_random(bytes.data(), bytes.size());
  std::string id;
  for (const uint8_t byte : bytes) {
    id += "0123456789abcdef"[byte >> 4];
    id += "0123456789abcdef"[byte & 15];
  }
  return id;
}

}  // namespace longhaul

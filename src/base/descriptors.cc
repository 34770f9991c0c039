#include "base/descriptors.h"

#include <errno.h>
#include <sys/resource.h>

#include <algorithm>

namespace longhaul {
namespace {

constexpr rlim_t kPlenty = 1'000'000;

rlimit read_limit() {
  rlimit limit{kPlenty, kPlenty};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit;
}

}  // namespace

uint64_t raise_descriptor_limit() {
  const rlimit before = read_limit();
  // One that asks for more than the kernel's own bound is refused as a whole.
  const rlimit wanted{std::min(before.rlim_max, std::max(before.rlim_cur, kPlenty)),
                      before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &wanted);
  return before.rlim_cur;
}

uint64_t descriptor_limit() {
  return std::min(read_limit().rlim_cur, kPlenty);
}

bool is_passing(int error_number) {
  switch (error_number) {
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
    case ENOSPC:
    case EDQUOT:
    case EAGAIN:
    case EINTR:
      return true;
    default:
      return false;
  }
}

}  // namespace longhaul

// A rank that says when it began: seconds of CLOCK_MONOTONIC. With "wait" it then sleeps until it is
// stopped. No library but libc: what is measured is the launch, not the program's own start.
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

int main(int argc, char** argv) {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  std::printf("%lld.%09ld\n", static_cast<long long>(now.tv_sec), now.tv_nsec);
  std::fflush(stdout);
  if (argc > 1 && std::strcmp(argv[1], "wait") == 0) ::pause();
}

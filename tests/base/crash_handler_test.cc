// A child crashes in each way and a pipe shows what it said.
#include "base/crash_handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

struct End {
  int status = 0;
  std::string said;
};

End run(const std::function<void()>& body) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    body();
    ::_exit(0);
  }
  ::close(ends[1]);
  End end;
  char buffer[4096];
  for (ssize_t size = 0; (size = ::read(ends[0], buffer, sizeof(buffer))) > 0;) {
    end.said.append(buffer, static_cast<size_t>(size));
  }
  ::close(ends[0]);
  ::waitpid(child, &end.status, 0);
  return end;
}

void expect_signal(const End& end, int signal_number) {
  EXPECT_TRUE(WIFSIGNALED(end.status)) << end.said;
  EXPECT_EQ(WTERMSIG(end.status), signal_number) << end.said;
}

[[gnu::noinline]] int read_through(const volatile int* pointer) {
  return *pointer + 1;
}

// Deeper than any stack, and its frames cannot be folded into a loop.
[[gnu::noinline]] int recurse(const volatile char* above, int64_t depth) {
  volatile char frame[4096];
  frame[0] = *above;
  return depth == 0 ? 0 : recurse(frame, depth - 1) + frame[0];
}

class CrashHandler : public ::testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "the sanitizer handles crashes itself, and keeps doing so";
#endif
  }
};

TEST_F(CrashHandler, ASegmentationFaultNamesItsAddressAndTheFunction) {
  const End end = run([] {
    install_crash_handler();
    read_through(reinterpret_cast<const int*>(0x10));  // NOLINT(performance-no-int-to-ptr)
  });
  expect_signal(end, SIGSEGV);
  EXPECT_THAT(end.said, StartsWith(str_cat(kCrashHeader, "SIGSEGV at address 0x10\n")));
  EXPECT_THAT(end.said, HasSubstr(str_cat(kCrashFrame, "#0 0x")));
  EXPECT_THAT(end.said, HasSubstr("read_through"));
}

TEST_F(CrashHandler, EveryCrashEndsByItsOwnSignal) {
  for (const int signal_number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    const End end = run([signal_number] {
      install_crash_handler();
      (void)::raise(signal_number);
    });
    expect_signal(end, signal_number);
    EXPECT_THAT(end.said,
                StartsWith(str_cat(kCrashHeader, "SIG", ::sigabbrev_np(signal_number), "\n")));
    EXPECT_THAT(end.said, HasSubstr("raise"));
  }
}

TEST_F(CrashHandler, AStackThatRanOutIsReportedToo) {
  const End end = run([] {
    install_crash_handler();
    const char start = 0;
    recurse(&start, int64_t{1} << 40);
  });
  expect_signal(end, SIGSEGV);
  EXPECT_THAT(end.said, HasSubstr("recurse"));
}

TEST_F(CrashHandler, TheProgramsOwnHandlerStays) {
  const End end = run([] {
    (void)::signal(SIGSEGV, [](int) { ::_exit(41); });
    install_crash_handler();
    (void)::raise(SIGSEGV);
  });
  EXPECT_EQ(WEXITSTATUS(end.status), 41);
  EXPECT_THAT(end.said, IsEmpty());
}

TEST_F(CrashHandler, CanBeSwitchedOff) {
  const End end = run([] {
    ::setenv(kCrashHandlerVariable, "0", 1);
    install_crash_handler();
    (void)::raise(SIGSEGV);
  });
  expect_signal(end, SIGSEGV);
  EXPECT_THAT(end.said, IsEmpty());
}

}  // namespace
}  // namespace longhaul

// A look at another thread of this process.
#include "base/thread_stack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <condition_variable>
#include <mutex>
#include <thread>

namespace longhaul {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr milliseconds kPatience{20'000};

// A thread that waits in a function of its own until the test ends.
class Waiting {
 public:
  explicit Waiting(bool blocks_signals = false)
      : thread_([this, blocks_signals] {
          if (blocks_signals) {
            sigset_t all;
            ::sigfillset(&all);
            ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
          }
          wait_for_a_gradient();
        }) {}
  ~Waiting() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  // Of the thread; by then it waits: only so does it give the lock away.
  pid_t number() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return number_ != 0; });
    return number_;
  }

 private:
  [[gnu::noinline]] void wait_for_a_gradient() {
    std::unique_lock lock(mutex_);
    number_ = this_thread();
    changed_.notify_all();
    while (!over_) changed_.wait(lock);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  pid_t number_ = 0;
  bool over_ = false;
  std::thread thread_;
};

TEST(ThreadStack, SaysWhereAThreadWaits) {
  Waiting waiting;
  const pid_t thread = waiting.number();
  for (int i = 0; i < 3; ++i) {
    const auto stack = stack_of(thread, kPatience);
    ASSERT_TRUE(stack) << stack.failure().message;
    EXPECT_THAT(*stack, Contains(HasSubstr("wait_for_a_gradient")));
    EXPECT_THAT(stack->front(), HasSubstr("#0 0x"));
  }
}

TEST(ThreadStack, SaysWhyItCannot) {
  const auto nobody = stack_of(0x3fffffff, kPatience);
  ASSERT_FALSE(nobody);
  EXPECT_THAT(nobody.failure().message, HasSubstr("there is none"));
  Waiting deaf(/*blocks_signals=*/true);
  const pid_t thread = deaf.number();
  const auto stack = stack_of(thread, milliseconds(50));
  ASSERT_FALSE(stack);
  EXPECT_EQ(stack.failure().kind, ErrorKind::kUnavailable);
  Waiting waiting;
  EXPECT_TRUE(stack_of(waiting.number(), kPatience)) << "the next one is not disturbed";
}

}  // namespace
}  // namespace longhaul

// Tasks in processes that stay: what is kept of one that prints, dies or cannot be started when the
// host has no room for a moment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "base/random_id.h"
#include "control/worker/host/host_facts.h"
#include "control/worker/process/folder_remover.h"
#include "control/worker/process/rank_environment.h"
#include "control/worker/tasks/task_runner.h"
#include "control/worker/tasks/warm_process.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// This process can open nothing more.
class NoDescriptorsLeft {
 public:
  NoDescriptorsLeft() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit none = before_;
    none.rlim_cur = 0;
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptorsLeft() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  NoDescriptorsLeft(const NoDescriptorsLeft&) = delete;
  NoDescriptorsLeft& operator=(const NoDescriptorsLeft&) = delete;

 private:
  rlimit before_{};
};

class WarmTest : public ::testing::Test {
 protected:
  void run_loop() {
    const EventLoop::TimerId limit = loop_.after(milliseconds(30'000), [this] { loop_.stop(); });
    loop_.run();
    loop_.cancel(limit);
  }
  Result<std::unique_ptr<WarmProcess>> start(const std::string& script) {
    WarmProcess::Listener listener;
    listener.answered = [this](const std::string& answer) {
      answers_.push_back(answer);
      loop_.stop();
    };
    listener.ended = [this](const ProcessEnd& end, const std::string&) {
      end_ = end;
      loop_.stop();
    };
    ShimOptions shim;
    shim.program = find_shim().value_or_throw();
    return WarmProcess::start(loop_, remover_, parent_.file("warm-1"), random_id(), shim,
                              {"/bin/sh", {"sh", "-c", script}, "", to_strings(own_environment())},
                              1 << 20, std::move(listener));
  }

  const TempDir parent_;
  FolderRemover remover_{parent_.file("trash")};
  EventLoop loop_;
  std::vector<std::string> answers_;
  std::optional<ProcessEnd> end_;
};

TEST_F(WarmTest, WhatCouldNotBeStartedForWantOfDescriptorsCanBeStartedLater) {
  {
    const NoDescriptorsLeft none;
    const auto refused = start("true");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.failure().kind, ErrorKind::kExhausted) << refused.failure().message;
  }
  EXPECT_FALSE(fs::exists(parent_.file("warm-1"))) << "it would be in the way";
  const auto started = start("read input; echo \"$input\"");
  ASSERT_TRUE(started) << started.failure().message;
  ASSERT_TRUE((*started)->give("hello"));
  run_loop();
  EXPECT_THAT(answers_, ElementsAre("hello"));
}

TEST_F(WarmTest, AnAnswerThatCannotBeReadNowIsReadLater) {
  const auto started = start("read input; echo \"$input\"; read input");
  ASSERT_TRUE(started) << started.failure().message;
  ASSERT_TRUE((*started)->give("hello"));
  std::optional<NoDescriptorsLeft> none;
  // In a turn of the loop: the process has been started by then.
  loop_.after(milliseconds(0), [&] { none.emplace(); });
  loop_.after(milliseconds(1'500), [&] { none.reset(); });
  run_loop();
  EXPECT_THAT(answers_, ElementsAre("hello"));
}

TEST_F(WarmTest, TheLastAnswerOfOneThatHasEndedIsNotLost) {
  const auto started = start("read input; echo \"$input\"");
  ASSERT_TRUE(started) << started.failure().message;
  ASSERT_TRUE((*started)->give("hello"));
  std::optional<NoDescriptorsLeft> none;
  loop_.after(milliseconds(0), [&] { none.emplace(); });
  loop_.after(milliseconds(1'500), [&] {
    EXPECT_FALSE(end_) << "its end was told before its answer";
    none.reset();
  });
  run_loop();
  EXPECT_THAT(answers_, ElementsAre("hello"));
}

// As TaskRunner does for every other process (oom_watch.h).
TEST_F(WarmTest, OneThatIsEndedForItsMemoryHasAWitness) {
  const auto write = [this](const std::string& file, const std::string& text) {
    fs::create_directories(fs::path(parent_.file(file)).parent_path());
    std::ofstream(parent_.file(file)) << text;
  };
  write("proc/self/cgroup", "0::/jobs\n");
  write("cgroup/jobs/memory.events", "oom_kill 0\n");
  OomWatch watch({parent_.file("proc"), parent_.file("cgroup"), parent_.file("no-log")});
  TaskSite site;
  site.folder = parent_.file("tasks");
  site.shim = find_shim().value_or_throw();
  site.oom_watch = &watch;
  const SystemClock clock;
  site.clock = &clock;
  site.remover = &remover_;
  std::optional<v1::TaskEnded> ended;
  TaskRunner runner(
      loop_, site,
      [&](const v1::WorkerMessage& message) {
        for (const v1::TaskEnded& one : message.tasks_ended().ended()) ended = one;
        if (ended) loop_.stop();
      },
      [] {});
  v1::GrantTasks grant;
  grant.set_job_id("j1");
  grant.set_generation(1);
  const std::string kernel =
      "read input; echo 'oom_kill 1' >" + parent_.file("cgroup/jobs/memory.events");
  for (const std::string& word : {std::string("sh"), std::string("-c"), kernel + "; kill -9 $$"}) {
    grant.mutable_spec()->add_command(word);
  }
  grant.mutable_spec()->mutable_array()->set_warm(true);
  grant.mutable_spec()->mutable_array()->set_max_result_bytes(1000);
  v1::TaskGrant& task = *grant.add_batches()->add_tasks();
  task.mutable_lease()->set_attempt(1);
  task.mutable_lease()->set_epoch(7);
  task.set_input("x");
  runner.grant(grant);
  run_loop();
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->exit().signal(), SIGKILL);
  EXPECT_THAT(ended->exit().out_of_memory(), HasSubstr("oom_kill of cgroup /jobs rose to 1"));
}

}  // namespace
}  // namespace longhaul::testing

// One rank behind its shim: exit codes, signals, errors of exec, and that nothing is left behind.
#include "control/worker/rank_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "control/worker/host_facts.h"
#include "control/worker/rank_environment.h"
#include "tests/support/processes.h"
#include "tests/support/temp_dir.h"

namespace longhaul {
namespace {

using testing::eventually;
using testing::is_running;

// Runs one rank on a loop of its own; the hooks are called on it.
class RankRun {
 public:
  std::function<void(RankProcess&)> on_first_output;
  std::string out;
  std::string err;
  int64_t pid = 0;

  RankEnd shell(const std::string& script) { return run("/bin/sh", {"sh", "-c", script}); }

  RankEnd run(const std::string& program, const std::vector<std::string>& argv,
              const std::string& directory = "") {
    RankProcess::Listener listener;
    listener.started = [this](int64_t rank_pid) { pid = rank_pid; };
    listener.output = [this](RankStream stream, std::string_view data) {
      (stream == RankStream::kStdout ? out : err) += data;
      if (std::exchange(had_output_, true) || !on_first_output) return;
      on_first_output(*process_);
    };
    listener.ended = [this](const RankEnd& end) {
      end_ = end;
      loop_.stop();
    };
    process_.emplace(loop_, listener);
    Environment env = own_environment();
    env["LONGHAUL_TEST_MARK"] = mark_;
    RankCommand command{program, argv, directory, to_strings(env), "LONGHAUL_TEST_MARK=" + mark_};
    process_->start(find_shim().value_or_throw(), command).value_or_throw();
    loop_.after(milliseconds(60'000), [this] { loop_.stop(); });
    loop_.run();
    if (!end_) throw std::runtime_error("the rank did not end within a minute");
    return *end_;
  }

  // Numbers that the rank printed, one a line.
  std::vector<pid_t> printed_pids() const {
    std::istringstream lines(out);
    std::vector<pid_t> pids;
    for (pid_t number = 0; lines >> number;) pids.push_back(number);
    return pids;
  }

 private:
  EventLoop loop_;
  bool had_output_ = false;
  std::optional<RankProcess> process_;
  std::optional<RankEnd> end_;
  const std::string mark_ =
      std::to_string(::getpid()) + "-" + std::to_string(reinterpret_cast<uintptr_t>(this));
};

TEST(RankProcess, PassesTheExitCodeThrough) {
  for (const int code : {0, 1, 7, 255}) {
    RankRun rank;
    const RankEnd end = rank.shell("exit " + std::to_string(code));
    EXPECT_EQ(end.exit_code, code);
    EXPECT_EQ(end.signal, 0);
    EXPECT_EQ(end.launch_error, "");
    EXPECT_FALSE(end.stopped_by_us);
    EXPECT_GT(rank.pid, 1);
  }
}

TEST(RankProcess, ReportsTheSignalThatEndedIt) {
  RankRun rank;
  const RankEnd end = rank.shell("kill -SEGV $$");
  EXPECT_EQ(end.signal, SIGSEGV);
  EXPECT_EQ(end.exit_code, 128 + SIGSEGV);
  EXPECT_FALSE(end.stopped_by_us);
}

TEST(RankProcess, KeepsTheTwoStreamsApart) {
  RankRun rank;
  rank.shell("echo to out; echo to err >&2");
  EXPECT_EQ(rank.out, "to out\n");
  EXPECT_EQ(rank.err, "to err\n");
}

TEST(RankProcess, StartsInAFolderWithASessionOfItsOwnAndNoInput) {
  const testing::TempDir folder;
  RankRun rank;
  rank.run("/bin/sh", {"sh", "-c", "pwd; cut -d ' ' -f 6 /proc/$$/stat; cat"},
           folder.path().string());
  EXPECT_EQ(rank.out, folder.path().string() + "\n" + std::to_string(rank.pid) + "\n");
}

TEST(RankProcess, SaysExactlyWhyAProgramDoesNotStart) {
  const testing::TempDir folder;
  const auto write = [&](const std::string& name, const std::string& text) {
    const std::string path = folder.file(name);
    std::ofstream(path) << text;
    ::chmod(path.c_str(), 0755);
    return path;
  };
  struct Case {
    std::string program;
    std::string directory;
    std::string expected;
  };
  const std::vector<Case> cases = {
      {"/no/such/program", "", "/no/such/program: No such file"},
      {write("no-interpreter", "#!/no/such/shell\n"), "", "its interpreter"},
      {write("text", "hello"), "", "not a program"},
      {"/bin/sh", "/no/such/folder", "working directory /no/such/folder: No such file"},
      {folder.path().string(), "", "Permission denied"},
  };
  for (const Case& c : cases) {
    RankRun rank;
    const RankEnd end = rank.run(c.program, {"x"}, c.directory);
    EXPECT_NE(end.launch_error.find(c.expected), std::string::npos) << end.launch_error;
    EXPECT_EQ(end.exit_code, 127);
  }
}

TEST(RankProcess, LeavesNoDaemonBehind) {
  RankRun rank;
  const RankEnd end = rank.shell(
      "(setsid sh -c 'setsid sleep 1000 >/dev/null 2>&1 & echo $!' &) ; "
      "setsid sleep 1000 >/dev/null 2>&1 & echo $!; sleep 0.2; exit 3");
  EXPECT_EQ(end.exit_code, 3);
  ASSERT_EQ(rank.printed_pids().size(), 2U) << rank.out;
  for (const pid_t pid : rank.printed_pids()) EXPECT_FALSE(is_running(pid)) << pid;
}

TEST(RankProcess, IsNotHeldUpByAChildThatKeepsItsPipe) {
  RankRun rank;
  EXPECT_EQ(rank.shell("sleep 1000 & echo $!; exit 0").exit_code, 0);
  ASSERT_EQ(rank.printed_pids().size(), 1U);
  EXPECT_FALSE(is_running(rank.printed_pids()[0]));
}

TEST(RankProcess, TerminatesWithTheRanksOwnLastWords) {
  RankRun rank;
  rank.on_first_output = [](RankProcess& process) { process.terminate(); };
  const RankEnd end =
      rank.shell("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.02; done");
  EXPECT_EQ(end.exit_code, 5);
  EXPECT_TRUE(end.stopped_by_us);
  EXPECT_EQ(rank.out, "ready\nbye\n");
}

TEST(RankProcess, KillsWhatIgnoresTermination) {
  RankRun rank;
  rank.on_first_output = [](RankProcess& process) { process.kill(); };
  const RankEnd end = rank.shell("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000");
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_TRUE(end.stopped_by_us);
  EXPECT_FALSE(is_running(rank.printed_pids().at(0)));
}

TEST(RankProcess, FindsOutThatARankHadBeenStopped) {
  RankRun rank;
  rank.on_first_output = [&](RankProcess& process) {
    ASSERT_TRUE(
        eventually([&] { return testing::process_state(rank.printed_pids().at(0)) == 'T'; }));
    process.terminate();
  };
  const RankEnd end = rank.shell("echo $$; kill -STOP $$; sleep 1000");
  EXPECT_EQ(end.process_state, "T");
  EXPECT_EQ(end.signal, SIGTERM);
  EXPECT_TRUE(end.stopped_by_us);
}

TEST(RankProcess, OutputOfAKilledRankArrivesWhole) {
  RankRun rank;
  const RankEnd end = rank.shell("head -c 10000000 /dev/zero; echo end >&2; kill -KILL $$");
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_EQ(rank.out.size(), 10'000'000U);
  EXPECT_EQ(rank.err, "end\n");
}

TEST(RankProcess, AKilledShimTakesEverythingWithIt) {
  RankRun rank;
  rank.on_first_output = [&](RankProcess&) { ::kill(rank.printed_pids().at(0), SIGKILL); };
  const RankEnd end = rank.shell(
      "setsid sleep 1000 & printf '%s %s %s\\n' $PPID $$ $!; while :; do sleep 0.05; done");
  EXPECT_EQ(rank.printed_pids().size(), 3U);
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_FALSE(end.stopped_by_us);
  for (const pid_t pid : rank.printed_pids()) {
    EXPECT_TRUE(eventually([pid] { return !is_running(pid); })) << pid;
  }
}

TEST(RankProcess, AMissingShimIsAnErrorAndNotARank) {
  EventLoop loop;
  RankProcess process(loop, {});
  const RankCommand command{"/bin/true", {"true"}, "", {}, "X=1"};
  const Result<void> started = process.start("/no/such/longhaul-shim", command);
  ASSERT_FALSE(started);
  EXPECT_NE(started.failure().message.find("/no/such/longhaul-shim"), std::string::npos);
}

}  // namespace
}  // namespace longhaul

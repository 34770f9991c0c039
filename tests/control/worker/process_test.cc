// One rank behind its shim: exit codes, signals, errors of exec, and that nothing is left behind.
#include "control/worker/process/managed_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <utility>

#include "control/worker/host/host_facts.h"
#include "control/worker/output/spool_reader.h"
#include "control/worker/process/proc_stat.h"
#include "control/worker/process/rank_environment.h"
#include "longhaul/agent/client/agent_client.h"
#include "tests/control/worker/mapped_ledger.h"
#include "tests/support/processes.h"
#include "tests/support/temp_dir.h"

namespace longhaul {
namespace {

using testing::eventually;
using testing::is_running;

// Runs one rank on a loop of its own; the hooks are called on it.
class RankRun {
 public:
  std::function<void(ManagedProcess&)> on_first_output;
  std::string out;
  std::string err;
  int64_t pid = 0;
  ShimOptions shim;

  ProcessEnd shell(const std::string& script) { return run("/bin/sh", {"sh", "-c", script}); }

  ProcessEnd run(const std::string& program, const std::vector<std::string>& argv,
                 const std::string& directory = "") {
    folder_.emplace(ProcessFolder::create(parent_.file("rank-0"), token_).value_or_throw());
    process_.emplace(loop_, *folder_, listener());
    Environment env = own_environment();
    env[AgentClient::kTokenVariable] = token_;
    shim.program = find_shim().value_or_throw();
    process_->start(shim, {program, argv, directory, to_strings(env)}).value_or_throw();
    return follow();
  }

  // The part of a worker that is killed as soon as the rank has printed something.
  void start_and_die(const std::string& script) {
    in_a_dying_worker([&] { shell(script); });
  }
  void adopt_and_die() {
    in_a_dying_worker([&] { adopt(); });
  }
  // The part of the worker that comes after it.
  ProcessEnd adopt() {
    folder_.emplace(ProcessFolder::open(parent_.file("rank-0")).value_or_throw());
    process_.emplace(loop_, *folder_, listener());
    process_->adopt("sh", "");
    return follow();
  }
  // What the rank has printed so far, without a worker.
  std::vector<pid_t> look_for_pids(size_t count) {
    const ProcessFolder folder = ProcessFolder::open(parent_.file("rank-0")).value_or_throw();
    EXPECT_TRUE(eventually([&] {
      folder.refresh();
      read(SpoolReader(folder, 0), out);
      return printed_pids().size() >= count;
    }));
    std::vector<pid_t> pids = printed_pids();
    pids.resize(count);
    return pids;
  }

  std::string file(const std::string& name) const { return parent_.file(name); }

  // Numbers that the rank printed, one a line.
  std::vector<pid_t> printed_pids() const {
    std::istringstream lines(out);
    std::vector<pid_t> pids;
    for (pid_t number = 0; lines >> number;) pids.push_back(number);
    return pids;
  }

 private:
  ManagedProcess::Listener listener() {
    ManagedProcess::Listener listener;
    listener.started = [this](int64_t rank_pid) { pid = rank_pid; };
    listener.output = [this] {
      read(SpoolReader(*folder_, 0), out);
      read(SpoolReader(*folder_, 1), err);
      if (out.empty() || !on_first_output) return;
      std::exchange(on_first_output, nullptr)(*process_);
    };
    listener.ended = [this](const ProcessEnd& end) {
      end_ = end;
      loop_.stop();
    };
    return listener;
  }

  static void read(SpoolReader spool, std::string& text) {
    uint64_t offset = text.size();
    for (std::string more = "x"; !more.empty(); offset = text.size()) {
      more = spool.read(offset, 1 << 20);
      text += more;
    }
  }

  void in_a_dying_worker(const std::function<void()>& body) {
    const pid_t worker = ::fork();
    if (worker == 0) {
      on_first_output = [](ManagedProcess&) { ::_exit(0); };
      body();
      ::_exit(1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(worker, &status, 0), worker);
    ASSERT_EQ(status, 0) << "the rank printed nothing";
  }

  ProcessEnd follow() {
    loop_.after(milliseconds(60'000), [this] { loop_.stop(); });
    loop_.run();
    if (!end_) throw std::runtime_error("the rank did not end within a minute");
    return *end_;
  }

  const testing::TempDir parent_;
  EventLoop loop_;
  std::optional<ProcessFolder> folder_;
  std::optional<ManagedProcess> process_;
  std::optional<ProcessEnd> end_;
  const std::string token_ =
      std::to_string(::getpid()) + "-" + std::to_string(reinterpret_cast<uintptr_t>(this));
};

constexpr milliseconds kLong{60'000};

TEST(ManagedProcess, PassesTheExitCodeThrough) {
  for (const int code : {0, 1, 7, 255}) {
    RankRun rank;
    const ProcessEnd end = rank.shell("exit " + std::to_string(code));
    EXPECT_EQ(end.exit_code, code);
    EXPECT_EQ(end.signal, 0);
    EXPECT_EQ(end.launch_error, "");
    EXPECT_FALSE(end.stopped_by_us);
    EXPECT_GT(rank.pid, 1);
  }
}

TEST(ManagedProcess, ReportsTheSignalThatEndedIt) {
  RankRun rank;
  const ProcessEnd end = rank.shell("kill -SEGV $$");
  EXPECT_EQ(end.signal, SIGSEGV);
  EXPECT_EQ(end.exit_code, 128 + SIGSEGV);
  EXPECT_FALSE(end.stopped_by_us);
}

TEST(ManagedProcess, KeepsTheTwoStreamsApart) {
  RankRun rank;
  rank.shell("echo to out; echo to err >&2");
  EXPECT_EQ(rank.out, "to out\n");
  EXPECT_EQ(rank.err, "to err\n");
}

TEST(ManagedProcess, StartsInAFolderWithASessionOfItsOwnAndNoInput) {
  const testing::TempDir folder;
  RankRun rank;
  rank.run("/bin/sh", {"sh", "-c", "pwd; cut -d ' ' -f 6 /proc/$$/stat; cat"},
           folder.path().string());
  EXPECT_EQ(rank.out, folder.path().string() + "\n" + std::to_string(rank.pid) + "\n");
}

TEST(ManagedProcess, SaysExactlyWhyAProgramDoesNotStart) {
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
    int exit_code = 127;
  };
  const std::vector<Case> cases = {
      {"/no/such/program", "", "/no/such/program: No such file"},
      {write("no-interpreter", "#!/no/such/shell\n"), "", "its interpreter"},
      {write("text", "hello"), "", "not a program", 126},
      {"/bin/sh", "/no/such/folder", "working directory /no/such/folder: No such file"},
      {folder.path().string(), "", "Permission denied", 126},
  };
  for (const Case& c : cases) {
    RankRun rank;
    const ProcessEnd end = rank.run(c.program, {"x"}, c.directory);
    EXPECT_NE(end.launch_error.find(c.expected), std::string::npos) << end.launch_error;
    EXPECT_EQ(end.exit_code, c.exit_code);
  }
}

TEST(ManagedProcess, LeavesNoDaemonBehind) {
  RankRun rank;
  rank.shim.linger = milliseconds(0);
  const ProcessEnd end = rank.shell(
      "(setsid sh -c 'setsid sleep 1000 >/dev/null 2>&1 & echo $!' &) ; "
      "setsid sleep 1000 >/dev/null 2>&1 & echo $!; sleep 0.2; exit 3");
  EXPECT_EQ(end.exit_code, 3);
  ASSERT_EQ(rank.printed_pids().size(), 2U) << rank.out;
  for (const pid_t pid : rank.printed_pids()) EXPECT_FALSE(is_running(pid)) << pid;
}

// --- What it has started lives on --------------------------------------------------------------

TEST(RanksTree, IsGivenTheTimeToEndByItself) {
  RankRun rank;
  rank.shim.linger = kLong;
  const ProcessEnd end =
      rank.run("/bin/bash", {"bash", "-c", "exec > >(sleep 0.3; cat); seq 20000"});
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.ended_too, "");
  const std::vector<pid_t> numbers = rank.printed_pids();
  ASSERT_EQ(numbers.size(), 20'000U);
  EXPECT_EQ(numbers.back(), 20'000);
  EXPECT_EQ(rank.err, "");
}

TEST(RanksTree, AProgramThatFailsHasItsOutputToo) {
  RankRun rank;
  rank.shim.linger = kLong;
  const ProcessEnd end =
      rank.run("/bin/bash",
               {"bash", "-c", "exec 2> >(trap '' TERM; sed s/^/log:/ >&2); echo why >&2; exit 3"});
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_EQ(rank.err, "log:why\n");
}

TEST(RanksTree, WhatHoldsItsPipeForEverIsEndedAndNamed) {
  RankRun rank;
  rank.shim.linger = milliseconds(100);
  rank.shim.grace = kLong;
  const ProcessEnd end = rank.shell("sleep 1000 & echo $!; exit 0");
  EXPECT_EQ(end.exit_code, 0);
  ASSERT_EQ(rank.printed_pids().size(), 1U);
  const pid_t left = rank.printed_pids()[0];
  EXPECT_FALSE(is_running(left));
  const std::string name = "sleep 1000 (pid " + std::to_string(left) + ")";
  EXPECT_EQ(rank.err, "[longhaul: still running 0.1 s after the program had ended, so ended too: " +
                          name + "]\n");
  EXPECT_NE(end.ended_too.find(name), std::string::npos) << end.ended_too;
}

TEST(RanksTree, WhatIgnoresSigtermIsKilledAndNamed) {
  RankRun rank;
  rank.shim.linger = milliseconds(0);
  rank.shim.grace = milliseconds(100);
  const ProcessEnd end = rank.shell(
      "(trap '' TERM; echo up; while :; do sleep 0.02; done) & sleep 0.3; printf last >&2; exit 3");
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_NE(rank.err.find("last\n[longhaul: still running"), std::string::npos) << rank.err;
  EXPECT_NE(rank.err.find("had not ended 0.1 s after SIGTERM, so killed: sh -c"), std::string::npos)
      << rank.err;
}

TEST(RanksTree, ATrainerBehindAShellHasTheWholeGrace) {
  RankRun rank;
  rank.on_first_output = [](ManagedProcess& process) { process.terminate(); };
  const ProcessEnd end = rank.shell(
      "sh -c 'trap \"for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.05; echo block \\$i; done; exit\" "
      "TERM; echo up; while :; do sleep 0.02; done'; true");
  EXPECT_EQ(end.signal, SIGTERM);
  EXPECT_TRUE(end.stopped_by_us);
  EXPECT_NE(rank.out.find("block 10\n"), std::string::npos) << rank.out;
  // The shell itself may say that SIGTERM ended the `sleep` it was waiting for.
  EXPECT_EQ(rank.err.find("[longhaul"), std::string::npos) << rank.err;
}

TEST(RanksTree, IsToldToEndWhereverItWentOnceTheFirstProcessHasEnded) {
  RankRun rank;
  rank.on_first_output = [](ManagedProcess& process) { process.terminate(); };
  const ProcessEnd end = rank.shell(
      "setsid sh -c 'trap \"echo bye; exit\" TERM; echo up; while :; do sleep 0.02; done' & wait");
  EXPECT_EQ(end.signal, SIGTERM);
  EXPECT_EQ(rank.out, "up\nbye\n");
}

TEST(RanksTree, WhatHasNotEndedWhenItsGraceIsOverIsNamed) {
  RankRun rank;
  rank.on_first_output = [&](ManagedProcess& process) {
    process.terminate();
    process.kill();
  };
  const ProcessEnd end = rank.shell("trap '' TERM; echo $$; while :; do sleep 1000; done");
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_NE(rank.err.find("had not ended when the grace after SIGTERM was over, so killed: sh -c"),
            std::string::npos)
      << rank.err;
}

TEST(RanksTree, PythonsTrackerCleansUpTheSharedMemoryOfAProgramThatDied) {
  RankRun rank;
  rank.shim.linger = kLong;
  const ProcessEnd end =
      rank.run("/usr/bin/python3", {"python3", "-c",
                                    "import os\nfrom multiprocessing import shared_memory\n"
                                    "block = shared_memory.SharedMemory(create=True, size=10)\n"
                                    "print(block.name, flush=True)\nos.kill(os.getpid(), 9)"});
  EXPECT_EQ(end.signal, SIGKILL);
  ASSERT_FALSE(rank.out.empty()) << rank.err;
  const std::string name = rank.out.substr(0, rank.out.find('\n'));
  EXPECT_FALSE(std::filesystem::exists("/dev/shm/" + name)) << name;
}

// --- A rank that lays hands on what is its worker's --------------------------------------------

TEST(ManagedProcess, ALedgerCutShortEndsItsRankAndNothingElse) {
  RankRun rank;
  const ProcessEnd end =
      rank.shell("echo $$; sleep 0.1; truncate -s 0 " + rank.file("rank-0/ledger") +
                 "; while :; do echo more; sleep 0.02; done");
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_FALSE(is_running(rank.printed_pids().at(0)));
}

TEST(ManagedProcess, AShimThatDoesNotListenIsEndedWithItsRank) {
  RankRun rank;
  rank.shim.kill_patience = milliseconds(100);
  rank.on_first_output = [&](ManagedProcess& process) {
    std::ofstream(rank.file("go")) << "\n";
    ASSERT_TRUE(
        eventually([&] { return testing::process_state(rank.printed_pids().at(0)) == 'T'; }));
    process.kill();
  };
  const ProcessEnd end = rank.shell("echo $PPID $$; while [ ! -e " + rank.file("go") +
                                    " ]; do sleep 0.02; done; kill -STOP $PPID; sleep 1000");
  EXPECT_EQ(end.signal, SIGKILL);
  for (const pid_t pid : rank.printed_pids()) {
    EXPECT_TRUE(eventually([pid] { return !is_running(pid); })) << pid;
  }
}

// --- A terminal instead of pipes ---------------------------------------------------------------

TEST(ManagedProcess, OnATerminalAProgramShowsEachLineAndEveryByteComesAsItWas) {
  RankRun rank;
  rank.shim.terminal = true;
  const ProcessEnd end = rank.shell(
      "test -t 1 && test -t 2 && ! test -t 0 && printf 'a\\r\\n\\003\\004b\\377'; echo e >&2; "
      "head -c 300000 /dev/zero");
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(rank.out, "a\r\n\003\004b\377" + std::string(300'000, '\0'));
  EXPECT_EQ(rank.err, "e\n");
}

TEST(ManagedProcess, OnATerminalWhatABufferWouldHoldBackComesBeforeACrash) {
  RankRun rank;
  rank.shim.terminal = true;
  const ProcessEnd end = rank.run(
      "/usr/bin/python3", {"python3", "-c", "import os\nprint('step 1')\nos.kill(os.getpid(), 9)"});
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_EQ(rank.out, "step 1\n");
}

TEST(ManagedProcess, TerminatesWithTheRanksOwnLastWords) {
  RankRun rank;
  rank.on_first_output = [](ManagedProcess& process) { process.terminate(); };
  const ProcessEnd end =
      rank.shell("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.02; done");
  EXPECT_EQ(end.exit_code, 5);
  EXPECT_TRUE(end.stopped_by_us);
  EXPECT_EQ(rank.out, "ready\nbye\n");
}

TEST(ManagedProcess, KillsWhatIgnoresTermination) {
  RankRun rank;
  rank.on_first_output = [](ManagedProcess& process) { process.kill(); };
  const ProcessEnd end = rank.shell("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000");
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_TRUE(end.stopped_by_us);
  EXPECT_FALSE(is_running(rank.printed_pids().at(0)));
}

TEST(ManagedProcess, FindsOutThatARankHadBeenStopped) {
  RankRun rank;
  rank.on_first_output = [&](ManagedProcess& process) {
    ASSERT_TRUE(
        eventually([&] { return testing::process_state(rank.printed_pids().at(0)) == 'T'; }));
    process.terminate();
  };
  const ProcessEnd end = rank.shell("echo $$; kill -STOP $$; sleep 1000");
  EXPECT_EQ(end.process_state, "T");
  EXPECT_EQ(end.signal, SIGTERM);
  EXPECT_TRUE(end.stopped_by_us);
}

TEST(ManagedProcess, OutputOfAKilledRankArrivesWhole) {
  RankRun rank;
  const ProcessEnd end = rank.shell("head -c 10000000 /dev/zero; echo end >&2; kill -KILL $$");
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_EQ(rank.out.size(), 10'000'000U);
  EXPECT_EQ(rank.err, "end\n");
}

TEST(ManagedProcess, AKilledShimTakesEverythingWithIt) {
  RankRun rank;
  rank.on_first_output = [&](ManagedProcess&) { ::kill(rank.printed_pids().at(0), SIGKILL); };
  const ProcessEnd end = rank.shell(
      "setsid sleep 1000 & printf '%s %s %s\\n' $PPID $$ $!; while :; do sleep 0.05; done");
  EXPECT_EQ(rank.printed_pids().size(), 3U);
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_FALSE(end.stopped_by_us);
  for (const pid_t pid : rank.printed_pids()) {
    EXPECT_TRUE(eventually([pid] { return !is_running(pid); })) << pid;
  }
}

// --- Its worker is killed ----------------------------------------------------------------------

TEST(OrphanedRank, IsNotDisturbedAndTellsItsEndToTheNextWorker) {
  RankRun rank;
  rank.shim.adopt_timeout = kLong;
  rank.start_and_die("echo $$; while [ ! -e " + rank.file("go") +
                     " ]; do sleep 0.02; done; echo after; echo err >&2; exit 6");
  rank.on_first_output = [&](ManagedProcess&) { std::ofstream(rank.file("go")) << "\n"; };
  const ProcessEnd end = rank.adopt();
  EXPECT_EQ(end.exit_code, 6);
  EXPECT_EQ(end.signal, 0);
  EXPECT_FALSE(end.stopped_by_us);
  EXPECT_EQ(rank.out, std::to_string(rank.pid) + "\nafter\n");
  EXPECT_EQ(rank.err, "err\n");
}

TEST(OrphanedRank, MayLoseAnyNumberOfWorkers) {
  RankRun rank;
  rank.shim.adopt_timeout = kLong;
  rank.start_and_die("echo $$; while [ ! -e " + rank.file("go") +
                     " ]; do sleep 0.02; done; exit 6");
  for (int i = 0; i < 3; ++i) rank.adopt_and_die();
  rank.on_first_output = [&](ManagedProcess&) { std::ofstream(rank.file("go")) << "\n"; };
  EXPECT_EQ(rank.adopt().exit_code, 6);
}

TEST(OrphanedRank, ThatEndsUnwatchedIsToldWithItsTrueCode) {
  for (const char* how : {"exit 7", "kill -SEGV $$"}) {
    RankRun rank;
    rank.shim.adopt_timeout = kLong;
    rank.start_and_die(std::string("echo $PPID; sleep 0.2; head -c 3000000 /dev/zero; ") + how);
    const pid_t shim = rank.look_for_pids(1)[0];
    ASSERT_TRUE(eventually([&] { return !is_running(shim); }));
    rank.out.clear();
    const ProcessEnd end = rank.adopt();
    EXPECT_EQ(end.exit_code, how[0] == 'e' ? 7 : 128 + SIGSEGV);
    EXPECT_FALSE(end.stopped_by_us);
    EXPECT_EQ(rank.out.size(), 3'000'000 + std::to_string(shim).size() + 1);
  }
}

TEST(OrphanedRank, IsStoppedByTheNextWorker) {
  RankRun rank;
  rank.shim.adopt_timeout = kLong;
  rank.start_and_die("trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.02; done");
  rank.on_first_output = [](ManagedProcess& process) { process.terminate(); };
  const ProcessEnd end = rank.adopt();
  EXPECT_EQ(end.exit_code, 5);
  EXPECT_TRUE(end.stopped_by_us);
  EXPECT_EQ(rank.out, "up\nbye\n");
}

TEST(OrphanedRank, IsKilledWhenNobodyComesInTime) {
  for (const int patience_ms : {0, 100}) {
    RankRun rank;
    rank.shim.adopt_timeout = milliseconds(patience_ms);
    rank.start_and_die(
        "trap '' TERM; setsid sleep 1000 & echo $PPID $$ $!; while :; do sleep 0.02; done");
    for (const pid_t pid : rank.look_for_pids(3)) {
      EXPECT_TRUE(eventually([&] { return !is_running(pid); })) << pid;
    }
    const ProcessEnd end = rank.adopt();
    EXPECT_EQ(end.signal, SIGKILL);
    EXPECT_TRUE(end.stopped_by_us) << "it did not die of itself";
  }
}

TEST(OrphanedRank, WhoseShimIsKilledTooLeavesNothingToTheNextWorker) {
  RankRun rank;
  rank.shim.adopt_timeout = kLong;
  rank.start_and_die("setsid sleep 1000 & echo $PPID $$ $!; while :; do sleep 0.02; done");
  const std::vector<pid_t> pids = rank.look_for_pids(3);
  ::kill(pids[0], SIGKILL);
  EXPECT_TRUE(eventually([&] { return !is_running(pids[1]); })) << "the rank dies with its shim";
  EXPECT_TRUE(is_running(pids[2])) << "what it started does not";
  const ProcessEnd end = rank.adopt();
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_FALSE(end.stopped_by_us);
  EXPECT_TRUE(eventually([&] { return !is_running(pids[2]); }));
}

TEST(ProcessFolder, AProcessThatHasAShimsOldPidIsNotTheShim) {
  const testing::TempDir parent;
  const ProcessFolder folder = ProcessFolder::create(parent.file("rank"), "token").value_or_throw();
  const testing::MappedLedger ledger(folder.path());
  const auto finds_it = [&] {
    return folder.refresh() && folder.find_shim().value_or_throw().valid();
  };
  EXPECT_FALSE(finds_it());
  ledger->shim_pid = ::getpid();
  ledger->shim_start_time = read_proc_stat(::getpid())->start_time;
  ledger->phase = RankPhase::kShim;
  EXPECT_TRUE(finds_it());
  ledger->shim_start_time -= 1;
  EXPECT_FALSE(finds_it());
}

TEST(ProcessFolder, ALedgerThatIsCutShortIsNotedAndHarmsNobody) {
  const testing::TempDir parent;
  const ProcessFolder folder = ProcessFolder::create(parent.file("rank"), "token").value_or_throw();
  {
    const testing::MappedLedger ledger(folder.path());
    ledger->streams[0].end = 1000;
    ledger->phase = RankPhase::kStarted;
  }
  ASSERT_TRUE(folder.refresh());
  std::filesystem::resize_file(parent.file("rank/ledger"), 0);
  EXPECT_FALSE(folder.refresh());
  // What was known stays, and so does what is written.
  EXPECT_EQ(folder.ledger().phase, RankPhase::kStarted);
  EXPECT_EQ(folder.call_id(7, 8), 8U);
  EXPECT_EQ(folder.call_id(7, 9), 8U);
  folder.set_acknowledged(0, 10);
  EXPECT_EQ(folder.ledger().streams[0].acknowledged, 10U);
  std::ofstream(parent.file("rank/ledger")) << std::string(4096, '\xff');
  EXPECT_FALSE(folder.refresh());
  EXPECT_EQ(folder.ledger().streams[0].end, 1000U);
}

TEST(ProcessFolder, APipeInALedgersPlaceIsNotWaitedFor) {
  const testing::TempDir parent;
  std::filesystem::create_directory(parent.file("rank"));
  ASSERT_EQ(::mkfifo(parent.file("rank/ledger").c_str(), 0600), 0);
  EXPECT_EQ(ProcessFolder::open(parent.file("rank")).failure().kind, ErrorKind::kCorrupt);
}

TEST(ProcessFolder, KnowsTheLastCallsAgain) {
  const testing::TempDir parent;
  const ProcessFolder folder = ProcessFolder::create(parent.file("rank"), "token").value_or_throw();
  for (uint64_t i = 1; i <= 3 * ProcessLedger::kCalls; ++i) {
    EXPECT_EQ(folder.call_id(1000 + i, i), i);
    EXPECT_EQ(folder.call_id(1000 + i, 99'999), i);
    if (i == 1) continue;
    EXPECT_EQ(folder.call_id(1000 + i - 1, 99'999), i - 1);
  }
}

TEST(ProcessFolder, IsNotOpenedWhenItsLedgerIsNone) {
  const testing::TempDir parent;
  EXPECT_EQ(ProcessFolder::open(parent.file("no")).failure().kind, ErrorKind::kUnavailable);
  std::filesystem::create_directory(parent.file("rank"));
  EXPECT_EQ(ProcessFolder::open(parent.file("rank")).failure().kind, ErrorKind::kUnavailable);
  std::ofstream(parent.file("rank/ledger")) << "short";
  EXPECT_EQ(ProcessFolder::open(parent.file("rank")).failure().kind, ErrorKind::kCorrupt);
  std::ofstream(parent.file("rank/ledger")) << std::string(4096, 'x');
  EXPECT_EQ(ProcessFolder::open(parent.file("rank")).failure().kind, ErrorKind::kCorrupt);
}

TEST(ManagedProcess, AMissingShimIsAnErrorAndNotARank) {
  const testing::TempDir parent;
  const ProcessFolder folder = ProcessFolder::create(parent.file("rank"), "token").value_or_throw();
  EventLoop loop;
  ManagedProcess process(loop, folder, {});
  const ProcessCommand command{"/bin/true", {"true"}, "", {}};
  const Result<void> started = process.start({"/no/such/longhaul-shim"}, command);
  ASSERT_FALSE(started);
  EXPECT_NE(started.failure().message.find("/no/such/longhaul-shim"), std::string::npos);
}

}  // namespace
}  // namespace longhaul

// longhaul-worker is killed without warning and started again, against a master that the test
// plays: its ranks run on and lose no line, or are cleaned up, as configured. The real program,
// because only that one can be killed.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/thread.h"
#include "control/worker/process/process_folder.h"
#include "longhaul/agent/client/agent_client.h"
#include "longhaul/base/strings.h"
#include "tests/control/fake_master.h"
#include "tests/control/worker/worker_host.h"
#include "tests/support/child_process.h"
#include "tests/support/processes.h"
#include "tests/support/temp_dir.h"

namespace longhaul {
namespace {

using testing::ChildProcess;
using testing::eventually;
using testing::FakeMaster;
using testing::is_running;
using testing::WorkerHost;

constexpr const char* kMark = "LONGHAUL_TEST_MARKER";

class RestartedWorker : public ::testing::Test {
 protected:
  void TearDown() override {
    worker_.reset();
    // What a test has not ended itself runs on for a minute: not after the test.
    for (const pid_t pid : testing::processes_marked(mark_pair())) {
      if (!HasFailure()) ADD_FAILURE() << pid << " was left running";
      ::kill(pid, SIGKILL);
    }
  }

  std::unique_ptr<ChildProcess> another(const std::vector<std::string>& flags) {
    const std::string program =
        std::filesystem::read_symlink("/proc/self/exe").parent_path() / "longhaul-worker";
    std::vector<std::string> command = {program,   "--master", master.address(), "--name", "gpu-a",
                                        "--slots", "4"};
    command.insert(command.end(), flags.begin(), flags.end());
    ChildProcess::Options options;
    options.folder = folder_.path().string();
    options.env = {{kMark, mark_}, {"TMPDIR", folder_.path().string()}};
    return std::make_unique<ChildProcess>(command, folder_.file(str_cat("worker-", ++processes_)),
                                          options);
  }
  // The n-th worker has registered.
  void start(const std::vector<std::string>& flags = {"--state-dir", "state"}) {
    worker_ = another(flags);
    ++starts_;
    ASSERT_TRUE(master.wait([&](const FakeMaster::Messages& messages) {
      return registrations(messages).size() >= starts_;
    })) << worker_->err();
  }
  void kill() {
    worker_->kill(SIGKILL);
    ASSERT_EQ(worker_->wait(), 128 + SIGKILL);
  }
  void restart(const std::vector<std::string>& flags = {"--state-dir", "state"}) {
    kill();
    start(flags);
  }
  // As an operator would.
  void end() {
    worker_->kill(SIGTERM);
    EXPECT_EQ(worker_->wait(), 0) << worker_->err();
  }

  // As each worker tells it anew.
  static std::vector<int64_t> spawned_pids(const FakeMaster::Messages& messages) {
    std::vector<int64_t> pids;
    for (const auto& message : messages) {
      if (message.rank_event().has_spawned()) pids.push_back(message.rank_event().spawned().pid());
    }
    return pids;
  }
  static std::vector<v1::Register> registrations(const FakeMaster::Messages& messages) {
    std::vector<v1::Register> all;
    for (const auto& message : messages) {
      if (message.has_register_()) all.push_back(message.register_());
    }
    return all;
  }

  void launch(const std::string& script, uint32_t ranks = 1) {
    master.send(WorkerHost::launch_message(script, ranks));
  }
  bool printed(const std::string& text, uint32_t rank = 0) {
    return master.wait([&](const FakeMaster::Messages& messages) {
      return WorkerHost::output(messages, rank).find(text) != std::string::npos;
    });
  }
  std::string output(uint32_t rank = 0) { return WorkerHost::output(master.messages(), rank); }
  struct Agent {
    std::string address;
    std::string token;
  };
  // A rank that does nothing but live; where its agent is, for a test that calls it as that rank.
  Agent launch_with_agent() {
    launch("echo $LONGHAUL_AGENT $LONGHAUL_AGENT_TOKEN end; exec sleep 1000");
    EXPECT_TRUE(printed("end"));
    std::istringstream words(output());
    Agent agent;
    words >> agent.address >> agent.token;
    return agent;
  }
  std::vector<v1::RankExited> wait_exits(size_t count) {
    (void)master.wait([count](const FakeMaster::Messages& messages) {
      return WorkerHost::exits(messages).size() >= count;
    });
    return WorkerHost::exits(master.messages());
  }
  void go() { std::ofstream(folder_.file("go")) << "go"; }

  static std::vector<pid_t> numbers(const std::string& text) {
    std::istringstream words(text);
    std::vector<pid_t> numbers;
    for (pid_t number = 0; words >> number;) numbers.push_back(number);
    return numbers;
  }
  std::string mark_pair() const { return str_cat(kMark, "=", mark_); }
  bool exists(const std::string& name) const { return std::filesystem::exists(folder_.file(name)); }

  const testing::TempDir folder_;
  const std::string mark_ = str_cat(::getpid(), "-", reinterpret_cast<uintptr_t>(this));
  FakeMaster master;
  std::unique_ptr<ChildProcess> worker_;
  size_t starts_ = 0;
  int processes_ = 0;
};

// Numbers the lines 1..n, then waits for `go`.
constexpr const char* kCount =
    "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; [ $((i % 50)) = 0 ] && sleep 0.005; done; "
    "while [ ! -e go ]; do sleep 0.02; done; echo end; exit 6";

std::string count_to(int last) {
  std::string text;
  for (int i = 1; i <= last; ++i) text += str_cat(i, "\n");
  return text;
}

// By offset, as a master keeps it: every byte that comes twice is the same byte.
void expect_consistent(const FakeMaster::Messages& messages, const std::string& whole) {
  for (const auto& message : messages) {
    if (!message.has_rank_output()) continue;
    const v1::Output& output = message.rank_output().output();
    ASSERT_LE(output.offset() + output.data().size(), whole.size());
    ASSERT_EQ(whole.substr(output.offset(), output.data().size()), output.data());
  }
}

TEST_F(RestartedWorker, GoesOnWithItsRanksAndLosesNoLine) {
  start();
  launch(kCount);
  ASSERT_TRUE(printed("\n500\n"));
  restart();
  ASSERT_TRUE(printed("\n2000\n"));
  go();
  const auto exits = wait_exits(1);
  ASSERT_EQ(exits.size(), 1U);
  EXPECT_EQ(exits[0].exit_code(), 6);
  EXPECT_FALSE(exits[0].stopped_by_us());
  const FakeMaster::Messages messages = master.messages();
  const std::string whole = count_to(2000) + "end\n";
  EXPECT_EQ(WorkerHost::output(messages), whole);
  expect_consistent(messages, whole);
  const std::vector<int64_t> pids = spawned_pids(messages);
  ASSERT_EQ(pids.size(), 2U);
  EXPECT_EQ(pids[1], pids[0]);
  const std::vector<v1::Register> registered = registrations(messages);
  EXPECT_EQ(registered[1].incarnation(), registered[0].incarnation());
  EXPECT_NE(registered[1].pid(), registered[0].pid());
  ASSERT_EQ(registered[1].inventory_size(), 1);
  EXPECT_EQ(registered[1].inventory(0).job_id(), "j1");
  end();
  EXPECT_FALSE(exists("state/spool")) << "a worker that is told to end leaves nothing";
  EXPECT_FALSE(exists("state/incarnation"));
}

TEST_F(RestartedWorker, SendsOnlyWhatTheMasterHasNotAcknowledged) {
  start();
  launch("echo once; while [ ! -e go ]; do sleep 0.02; done");
  ASSERT_TRUE(printed("once"));
  // Its place is kept as soon as the acknowledgement has come; the answer to a heartbeat follows.
  const size_t before = master.messages().size();
  ASSERT_TRUE(master.wait([&](const FakeMaster::Messages& messages) {
    return std::count_if(messages.begin() + static_cast<std::ptrdiff_t>(before), messages.end(),
                         [](const auto& m) { return m.has_heartbeat(); }) > 2;
  }));
  restart();
  go();
  ASSERT_EQ(wait_exits(1).size(), 1U);
  const FakeMaster::Messages messages = master.messages();
  EXPECT_EQ(std::count_if(messages.begin(), messages.end(),
                          [](const auto& m) { return m.has_rank_output(); }),
            1);
  end();
}

TEST_F(RestartedWorker, MayBeKilledAgainAndAgain) {
  start();
  launch(kCount, 2);
  for (const char* line : {"\n100\n", "\n300\n", "\n600\n"}) {
    ASSERT_TRUE(printed(line, 1));
    restart();
  }
  go();
  ASSERT_EQ(wait_exits(2).size(), 2U);
  for (const uint32_t rank : {0U, 1U}) EXPECT_EQ(output(rank), count_to(2000) + "end\n");
  end();
}

TEST_F(RestartedWorker, TellsHowRanksEndedMeanwhile) {
  start();
  launch(
      "echo up; while [ ! -e go ]; do sleep 0.02; done; echo last words; "
      "[ $RANK = 0 ] && exit 7; echo crash >&2; kill -SEGV $$",
      2);
  ASSERT_TRUE(printed("up", 0));
  ASSERT_TRUE(printed("up", 1));
  kill();
  go();
  ASSERT_TRUE(eventually([&] { return testing::processes_marked(mark_pair()).empty(); }));
  start();
  const auto exits = wait_exits(2);
  ASSERT_EQ(exits.size(), 2U);
  EXPECT_EQ(exits[0].exit_code() + exits[1].exit_code(), 7 + 128 + SIGSEGV);
  for (const auto& exit : exits) {
    EXPECT_FALSE(exit.stopped_by_us());
    const bool crashed = exit.signal() == SIGSEGV;
    ASSERT_GE(exit.last_lines_size(), 1);
    EXPECT_EQ(exit.last_lines(exit.last_lines_size() - 1), crashed ? "crash" : "last words");
  }
  EXPECT_EQ(output(0), "up\nlast words\n");
  EXPECT_EQ(output(1), "up\nlast words\n");
  end();
}

// Killed in the middle of a launch: one rank runs, the shim of another had not begun, of the third
// there is nothing yet.
TEST_F(RestartedWorker, StartsTheRanksThatItWasKilledBeforeItCould) {
  start();
  launch("echo $$; exec sleep 1000", 3);
  for (const uint32_t rank : {0U, 1U, 2U}) ASSERT_TRUE(printed("\n", rank));
  const pid_t first = numbers(output(0)).at(0);
  kill();
  for (const uint32_t rank : {1U, 2U}) {
    const pid_t pid = numbers(output(rank)).at(0);
    ::kill(pid, SIGKILL);
    ASSERT_TRUE(eventually([&] { return !is_running(pid); }));
    std::filesystem::remove_all(folder_.file(str_cat("state/spool/j1-1/rank-", rank)));
  }
  ASSERT_TRUE(ProcessFolder::create(folder_.file("state/spool/j1-1/rank-1"), "token"));
  const size_t before = master.messages().size();
  start();
  std::map<uint32_t, int64_t> pids;
  ASSERT_TRUE(master.wait([&](const FakeMaster::Messages& messages) {
    for (size_t i = before; i < messages.size(); ++i) {
      const v1::RankEvent& event = messages[i].rank_event();
      if (event.has_spawned()) pids[event.rank()] = event.spawned().pid();
    }
    return pids.size() == 3;
  }));
  EXPECT_EQ(pids[0], first);
  for (const uint32_t rank : {1U, 2U}) EXPECT_TRUE(is_running(static_cast<pid_t>(pids[rank])));
  end();
}

TEST_F(RestartedWorker, StopsWhatTheMasterNoLongerKnows) {
  start();
  launch("echo $$; exec sleep 1000");
  ASSERT_TRUE(printed("\n"));
  const pid_t rank = numbers(output()).at(0);
  kill();
  master.answer_register(WorkerHost::over(/*output_wanted=*/false));
  start();
  EXPECT_TRUE(eventually([&] { return !is_running(rank); }));
  end();
  EXPECT_TRUE(WorkerHost::exits(master.messages()).empty());
}

TEST_F(RestartedWorker, SendsTheOutputOfALaunchThatIsOver) {
  start();
  launch("exec 2>/dev/null; trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.02; done");
  ASSERT_TRUE(printed("up"));
  kill();
  master.answer_register(WorkerHost::over(/*output_wanted=*/true));
  master.acknowledge_output(false);
  start();
  ASSERT_TRUE(printed("bye"));
  // Killed again before anybody has it.
  ASSERT_TRUE(eventually([&] { return testing::processes_marked(mark_pair()).size() == 1; }));
  kill();
  const size_t before = master.messages().size();
  master.acknowledge_output(true);
  start();
  EXPECT_TRUE(eventually([&] { return !exists("state/spool/j1-1"); }));
  const FakeMaster::Messages messages = master.messages();
  const FakeMaster::Messages last(messages.begin() + static_cast<std::ptrdiff_t>(before),
                                  messages.end());
  EXPECT_NE(WorkerHost::output(last).find("bye\n"), std::string::npos);
  EXPECT_EQ(output(), "up\nbye\n");
  expect_consistent(messages, "up\nbye\n");
  EXPECT_TRUE(WorkerHost::exits(messages).empty());
  end();
}

TEST_F(RestartedWorker, StopsItsRanksOnTheMastersWord) {
  start();
  launch("trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.02; done");
  ASSERT_TRUE(printed("up"));
  restart();
  v1::MasterMessage message;
  v1::StopRanks& stop = *message.mutable_stop_ranks();
  stop.set_job_id("j1");
  stop.set_generation(1);
  stop.set_grace_ms(20'000);
  master.send(message);
  const auto exits = wait_exits(1);
  ASSERT_EQ(exits.size(), 1U);
  EXPECT_EQ(exits[0].exit_code(), 4);
  EXPECT_TRUE(exits[0].stopped_by_us());
  EXPECT_EQ(output(), "up\nbye\n");
  end();
}

TEST_F(RestartedWorker, StopsItsRanksWhenTheMasterIsGoneToo) {
  start();
  launch("echo $$; exec sleep 1000");
  ASSERT_TRUE(printed("\n"));
  const pid_t rank = numbers(output()).at(0);
  kill();
  master.stop();
  const std::string program =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "longhaul-worker";
  ChildProcess::Options options;
  options.folder = folder_.path().string();
  worker_ = std::make_unique<ChildProcess>(
      std::vector<std::string>{program, "--master", master.address(), "--state-dir", "state",
                               "--master-timeout", "0.3"},
      folder_.file("lonely"), options);
  EXPECT_TRUE(eventually([&] { return !is_running(rank); })) << worker_->err();
  worker_->kill(SIGTERM);
  EXPECT_EQ(worker_->wait(), 0);
}

TEST_F(RestartedWorker, KillsWhatItFindsWhenItIsNotToAdopt) {
  start();
  launch("setsid sleep 1000 & echo $PPID $$ $!; while :; do sleep 0.02; done", 2);
  std::vector<pid_t> pids;
  for (const uint32_t rank : {0U, 1U}) {
    ASSERT_TRUE(printed("\n", rank));
    for (const pid_t pid : numbers(output(rank))) pids.push_back(pid);
  }
  ASSERT_EQ(pids.size(), 6U);
  kill();
  for (const pid_t pid : pids) EXPECT_TRUE(is_running(pid)) << "they wait for another worker";
  start({"--state-dir", "state", "--no-adopt"});
  // Gone before the worker offers its slots again.
  for (const pid_t pid : pids) EXPECT_FALSE(is_running(pid)) << pid;
  const std::vector<v1::Register> registered = registrations(master.messages());
  EXPECT_NE(registered[1].incarnation(), registered[0].incarnation());
  EXPECT_EQ(registered[1].inventory_size(), 0);
  EXPECT_NE(worker_->err().find("killed 2 ranks"), std::string::npos) << worker_->err();
  end();
}

TEST_F(RestartedWorker, BeginsAnewWhenItsHostHasDone) {
  start();
  launch("echo $$; exec sleep 1000");
  ASSERT_TRUE(printed("\n"));
  kill();
  std::string identity = testing::read_text(folder_.file("state/incarnation"));
  char& of_boot = identity.at(identity.find('\n') + 1);
  of_boot = of_boot == '0' ? '1' : '0';
  std::ofstream(folder_.file("state/incarnation")) << identity;
  start();
  const std::vector<v1::Register> registered = registrations(master.messages());
  EXPECT_NE(registered[1].incarnation(), registered[0].incarnation());
  EXPECT_EQ(registered[1].inventory_size(), 0);
  end();
}

TEST_F(RestartedWorker, ACopyOfItsStateIsRefusedAndTheOriginalIsNotDisturbed) {
  start();
  launch("echo $$; exec sleep 1000");
  ASSERT_TRUE(printed("\n"));
  const pid_t rank = numbers(output()).at(0);
  for (const char* flag : {"--adopt", "--no-adopt"}) {
    const int code = std::system(("cp -a " + folder_.file("state") + " " + folder_.file("copy") +
                                  " && rm -f " + folder_.file("copy/lock"))
                                     .c_str());
    ASSERT_EQ(code, 0);
    const std::unique_ptr<ChildProcess> second = another({"--state-dir", "copy", flag});
    EXPECT_EQ(second->wait(), 69) << second->err();
    EXPECT_NE(second->err().find("copy is a copy of " + folder_.file("state")), std::string::npos)
        << second->err();
    std::filesystem::remove_all(folder_.file("copy"));
  }
  EXPECT_TRUE(is_running(rank));
  EXPECT_EQ(registrations(master.messages()).size(), 1U);
  end();
}

TEST_F(RestartedWorker, AStateFolderThatWasMovedIsStillItsOwn) {
  start();
  kill();
  std::filesystem::rename(folder_.file("state"), folder_.file("moved"));
  start({"--state-dir", "moved"});
  const std::vector<v1::Register> registered = registrations(master.messages());
  EXPECT_EQ(registered[1].incarnation(), registered[0].incarnation());
  end();
}

TEST_F(RestartedWorker, CleansUpWhatItCannotUnderstand) {
  start();
  launch("echo $$; exec sleep 1000");
  ASSERT_TRUE(printed("\n"));
  const pid_t rank = numbers(output()).at(0);
  kill();
  std::ofstream(folder_.file("state/spool/j1-1/launch")) << "no protobuf \xff\xff";
  start();
  EXPECT_FALSE(is_running(rank));
  const std::vector<v1::Register> registered = registrations(master.messages());
  // The same worker, without this launch: the master finds out what is missing.
  EXPECT_EQ(registered[1].incarnation(), registered[0].incarnation());
  EXPECT_EQ(registered[1].inventory_size(), 0);
  end();
}

TEST_F(RestartedWorker, AnswersTheCallsOfItsRanks) {
  start();
  const Agent agent = launch_with_agent();
  AgentClient client(agent.address, agent.token);
  client.join().value_or_throw();
  EXPECT_EQ(client.store_add("count", 2).value_or_throw(), 2);
  Result<std::string> got = Failure{};
  Thread waiter("waiter", [&] { got = client.store_get("later", milliseconds(60'000)); });
  const auto asked = [](const FakeMaster::Messages& messages) {
    return std::count_if(messages.begin(), messages.end(), [](const auto& m) {
      return m.store_call().request().operation() == v1::StoreRequest::GET;
    });
  };
  ASSERT_TRUE(master.wait([&](const auto& messages) { return asked(messages) == 1; }));
  kill();
  Result<int64_t> added = Failure{};
  Thread adder("adder", [&] { added = client.store_add("count", 3); });
  start();
  adder.join();
  EXPECT_EQ(std::move(added).value_or_throw(), 5) << "asked while no worker was there: done once";
  ASSERT_TRUE(master.wait([&](const auto& messages) { return asked(messages) == 2; }));
  client.store_set("later", "survived").value_or_throw();
  waiter.join();
  EXPECT_EQ(std::move(got).value_or_throw(), "survived");
  EXPECT_TRUE(client.report({}).ok());
  end();
}

// The master has counted, but the worker is killed before it hears of it.
TEST_F(RestartedWorker, HasNothingCountedTwice) {
  start();
  const Agent agent = launch_with_agent();
  AgentClient client(agent.address, agent.token);
  EXPECT_EQ(client.store_add("count", 2).value_or_throw(), 2);
  master.answer_store_calls(false);
  Result<int64_t> added = Failure{};
  Thread adder("adder", [&] { added = client.store_add("count", 3); });
  const auto asked = [](const FakeMaster::Messages& messages) {
    return std::count_if(messages.begin(), messages.end(),
                         [](const auto& m) { return m.store_call().request().amount() == 3; });
  };
  ASSERT_TRUE(master.wait([&](const auto& messages) { return asked(messages) == 1; }));
  kill();
  master.answer_store_calls(true);
  start();
  adder.join();
  EXPECT_EQ(std::move(added).value_or_throw(), 5);
  EXPECT_EQ(asked(master.messages()), 2);
  EXPECT_EQ(client.store_add("count", 1).value_or_throw(), 6);
  end();
}

// The worker is killed before the master can have confirmed that it heard of the join.
TEST_F(RestartedWorker, TellsAgainWhatItsRanksHadSaid) {
  start();
  const Agent agent = launch_with_agent();
  AgentClient client(agent.address, agent.token);
  client.join().value_or_throw();
  client.report_fault({ErrorKind::kPeerLost, "rank 3 is gone", 3}).value_or_throw();
  client.leave().value_or_throw();
  kill();
  const size_t before = master.messages().size();
  start();
  std::vector<std::string> told;
  ASSERT_TRUE(master.wait([&](const FakeMaster::Messages& messages) {
    told.clear();
    for (size_t i = before; i < messages.size(); ++i) {
      const v1::RankEvent& event = messages[i].rank_event();
      if (event.has_spawned()) told.emplace_back("spawned");
      if (event.has_joined()) told.emplace_back("joined");
      if (event.has_fault()) told.emplace_back("fault");
      if (event.has_left()) told.emplace_back("left");
    }
    return told.size() == 4;
  }));
  EXPECT_EQ(told, (std::vector<std::string>{"spawned", "joined", "fault", "left"}));
  end();
}

TEST_F(RestartedWorker, SaysWhenASpoolWasFull) {
  start({"--state-dir", "state", "--spool-limit", "1"});
  master.acknowledge_output(false);
  launch(
      "head -c 8000000 /dev/zero | tr '\\0' x; echo; echo done; touch done; "
      "while [ ! -e go ]; do sleep 0.02; done");
  ASSERT_TRUE(eventually([&] { return exists("done"); })) << "a stalled reader blocks nobody";
  uint64_t spooled = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.file("state"))) {
    if (entry.path().filename().string().starts_with("stdout.")) spooled += entry.file_size();
  }
  EXPECT_LE(spooled, 1U << 20);
  restart({"--state-dir", "state", "--spool-limit", "1"});
  master.acknowledge_output(true);
  go();
  ASSERT_EQ(wait_exits(1).size(), 1U);
  const std::string all = output();
  EXPECT_NE(all.find("of output are missing here: the spool was full]"), std::string::npos);
  EXPECT_EQ(all.substr(all.size() - 6), "\ndone\n");
  EXPECT_EQ(all.size(), 8'000'006U) << "what is left stands at its place";
  EXPECT_NE(worker_->err().find("of its output are gone"), std::string::npos) << worker_->err();
  end();
}

TEST_F(RestartedWorker, OnATemporaryFolderLeavesNoRankBehind) {
  start({});
  launch("setsid sleep 1000 & echo $PPID $$ $! end; while :; do sleep 0.05; done", 2);
  std::vector<pid_t> pids;
  for (const uint32_t rank : {0U, 1U}) {
    ASSERT_TRUE(printed("end", rank));
    for (const pid_t pid : numbers(output(rank))) pids.push_back(pid);
  }
  EXPECT_EQ(pids.size(), 6U);
  kill();
  for (const pid_t pid : pids) EXPECT_TRUE(eventually([pid] { return !is_running(pid); })) << pid;
}

// No shim that could end them is left, but the next worker on this host finds them.
TEST_F(RestartedWorker, OnATemporaryFolderEndsWhatKilledShimsHaveLeft) {
  start({});
  launch("setsid sleep 1000 & echo $PPID $$ $! end; while :; do sleep 0.05; done");
  ASSERT_TRUE(printed("end"));
  const std::vector<pid_t> pids = numbers(output());
  worker_->kill(SIGSTOP);
  ::kill(pids.at(0), SIGKILL);
  ASSERT_TRUE(eventually([&] { return !is_running(pids.at(1)); }));
  kill();
  EXPECT_TRUE(is_running(pids.at(2)));
  start({});
  EXPECT_TRUE(eventually([&] { return !is_running(pids.at(2)); }));
  end();
}

TEST_F(RestartedWorker, IsNotWaitedForLongerThanSaid) {
  start({"--state-dir", "state", "--adopt-timeout", "0.1"});
  launch("echo $$; exec sleep 1000");
  ASSERT_TRUE(printed("\n"));
  const pid_t rank = numbers(output()).at(0);
  kill();
  ASSERT_TRUE(eventually([&] { return !is_running(rank); }));
  start();
  const auto exits = wait_exits(1);
  ASSERT_EQ(exits.size(), 1U);
  EXPECT_EQ(exits[0].signal(), SIGKILL);
  EXPECT_TRUE(exits[0].stopped_by_us()) << "it did not die of itself";
  end();
}

}  // namespace
}  // namespace longhaul

// A whole worker against a master that the test plays: what the master asks, what it hears, and
// what happens when one of them goes away.
#include "control/worker/worker.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/control/worker/worker_host.h"
#include "tests/support/processes.h"
#include "tests/support/temp_dir.h"

namespace longhaul {
namespace {

using testing::eventually;
using testing::FakeMaster;
using testing::is_running;
using testing::WorkerHost;

v1::Prepared prepare(WorkerHost& host, const std::vector<std::string>& command,
                     const std::string& directory, bool want_port) {
  v1::MasterMessage message;
  v1::Prepare& request = *message.mutable_prepare();
  request.set_job_id("j1");
  for (const std::string& word : command) request.mutable_spec()->add_command(word);
  request.mutable_spec()->set_working_directory(directory);
  request.set_want_port(want_port);
  host.master.send(message);
  v1::Prepared prepared;
  EXPECT_TRUE(host.master.wait([&](const FakeMaster::Messages& messages) {
    for (const auto& m : messages) prepared = m.has_prepared() ? m.prepared() : prepared;
    return prepared.job_id() == "j1";
  }));
  return prepared;
}

std::vector<pid_t> numbers(const std::string& text) {
  std::istringstream words(text);
  std::vector<pid_t> numbers;
  for (pid_t number = 0; words >> number;) numbers.push_back(number);
  return numbers;
}

TEST(Worker, IntroducesItself) {
  WorkerHost host;
  ASSERT_TRUE(host.registered());
  const v1::Register registration = host.master.messages().front().register_();
  EXPECT_EQ(registration.worker_id(), "gpu-a");
  EXPECT_EQ(registration.slots(), 4U);
  EXPECT_EQ(registration.address(), "127.0.0.1");
  EXPECT_EQ(registration.pid(), ::getpid());
  EXPECT_FALSE(registration.incarnation().empty());
  EXPECT_EQ(registration.inventory_size(), 0);
}

TEST(Worker, PreparesWithAFreePort) {
  WorkerHost host;
  ASSERT_TRUE(host.registered());
  const v1::Prepared prepared = prepare(host, {"sh"}, "", true);
  EXPECT_EQ(prepared.error(), "");
  EXPECT_GT(prepared.port(), 0U);
}

TEST(Worker, RefusesAProgramThatIsNotThereAndNamesItself) {
  WorkerHost host;
  ASSERT_TRUE(host.registered());
  EXPECT_EQ(prepare(host, {"./char_gpt"}, "/", false).error(),
            "./char_gpt: no such file (working directory /)");
}

TEST(Worker, RunsRanksAndTellsHowTheyEnded) {
  WorkerHost host;
  ASSERT_TRUE(host.registered());
  host.launch("echo rank $RANK of $WORLD_SIZE; echo oops >&2; exit $((RANK + 3))", 4);
  const auto exits = host.wait_exits(4);
  ASSERT_EQ(exits.size(), 4U);
  const FakeMaster::Messages messages = host.master.messages();
  for (uint32_t rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(WorkerHost::output(messages, rank), "rank " + std::to_string(rank) + " of 4\n");
  }
  std::vector<int32_t> codes;
  for (const auto& exit : exits) {
    codes.push_back(exit.exit_code());
    EXPECT_FALSE(exit.stopped_by_us());
    ASSERT_EQ(exit.last_lines_size(), 1);
    EXPECT_EQ(exit.last_lines(0), "oops");
  }
  std::sort(codes.begin(), codes.end());
  EXPECT_EQ(codes, (std::vector<int32_t>{3, 4, 5, 6}));
}

TEST(Worker, SendsARanksOutputBeforeItsExit) {
  WorkerHost host;
  ASSERT_TRUE(host.registered());
  host.launch("head -c 2000000 /dev/zero; kill -KILL $$");
  const auto exits = host.wait_exits();
  ASSERT_EQ(exits.size(), 1U);
  EXPECT_EQ(exits[0].signal(), SIGKILL);
  size_t before_exit = 0;
  for (const auto& message : host.master.messages()) {
    if (message.rank_event().has_exited()) break;
    before_exit += message.rank_output().output().data().size();
  }
  EXPECT_EQ(before_exit, 2'000'000U);
}

TEST(Worker, StopsRanksWithGraceAndSaysWhichOnesItStopped) {
  WorkerHost host;
  ASSERT_TRUE(host.registered());
  host.launch(
      "if [ $RANK = 0 ]; then exit 9; fi; trap 'exit 4' TERM; echo up; while :; do sleep 0.02; "
      "done",
      2);
  ASSERT_TRUE(host.printed("up", 1));
  ASSERT_EQ(host.wait_exits(1).size(), 1U);
  host.stop_ranks(20'000, "rank 0 exited with 9");
  const auto exits = host.wait_exits(2);
  ASSERT_EQ(exits.size(), 2U);
  EXPECT_EQ(exits[0].exit_code(), 9);
  EXPECT_FALSE(exits[0].stopped_by_us());
  EXPECT_EQ(exits[1].exit_code(), 4);
  EXPECT_TRUE(exits[1].stopped_by_us());
}

TEST(Worker, KillsWhatDoesNotEndWithinItsGrace) {
  WorkerHost host;
  ASSERT_TRUE(host.registered());
  host.launch("trap '' TERM; echo up; while :; do sleep 0.02; done");
  ASSERT_TRUE(host.printed("up"));
  host.stop_ranks(50, "enough");
  const auto exits = host.wait_exits();
  ASSERT_EQ(exits.size(), 1U);
  EXPECT_EQ(exits[0].signal(), SIGKILL);
  EXPECT_TRUE(exits[0].stopped_by_us());
}

TEST(Worker, WhateverARankPutsInItsErrorFilesPlaceHoldsUpNobody) {
  for (const std::string odd :
       {"mkfifo $f", "mkdir $f", "ln -s /dev/zero $f", "ln -s nowhere $f", "truncate -s 300G $f",
        "head -c 3000000 /dev/zero > $f", "yes [ | tr -d '\\n' | head -c 1000000 > $f",
        "echo '{\"message\":\"own words\"}' > $f; chmod 0 $f"}) {
    WorkerHost worker;
    ASSERT_TRUE(worker.registered());
    worker.launch("f=$TORCHELASTIC_ERROR_FILE; " + odd + "; echo said >&2; exit 3");
    const std::vector<v1::RankExited> exits = worker.wait_exits();
    ASSERT_EQ(exits.size(), 1U) << odd;
    EXPECT_EQ(exits[0].exit_code(), 3) << odd;
    EXPECT_EQ(exits[0].last_lines(exits[0].last_lines_size() - 1), "said") << odd;
    EXPECT_TRUE(worker.end()) << odd;
  }
}

TEST(Worker, AProgramThatIsGoneByLaunchIsALaunchError) {
  WorkerHost host;
  ASSERT_TRUE(host.registered());
  v1::MasterMessage message;
  v1::Launch& launch = *message.mutable_launch();
  launch.set_job_id("j1");
  launch.mutable_spec()->add_command("/no/such/program");
  launch.mutable_spec()->set_ranks(1);
  launch.add_ranks(0);
  host.master.send(message);
  const auto exits = host.wait_exits();
  ASSERT_EQ(exits.size(), 1U);
  EXPECT_EQ(exits[0].launch_error(), "/no/such/program: no such file");
  EXPECT_EQ(exits[0].exit_code(), 127);
}

TEST(Worker, AMasterThatTakesNoOutputBlocksNoRank) {
  WorkerHost host;
  host.master.acknowledge_output(false);
  ASSERT_TRUE(host.registered());
  const testing::TempDir folder;
  const std::string done = folder.file("done");
  host.launch("head -c 20000000 /dev/zero; touch " + done);
  EXPECT_TRUE(eventually([&] { return std::filesystem::exists(done); }));
  host.master.acknowledge_output(true);
  EXPECT_TRUE(host.master.wait([](const FakeMaster::Messages& messages) {
    return WorkerHost::output(messages).size() == 20'000'000;
  }));
  EXPECT_EQ(host.wait_exits().size(), 1U);
}

TEST(Worker, ItsRanksOutliveALostSession) {
  WorkerHost host;
  ASSERT_TRUE(host.registered());
  const testing::TempDir folder;
  const std::string go = folder.file("go");
  host.launch("echo before; while [ ! -e " + go + " ]; do sleep 0.02; done; echo after; exit 6");
  ASSERT_TRUE(host.printed("before"));
  host.master.stop();
  std::ofstream(go) << "go";
  host.master.start_again();
  ASSERT_TRUE(host.registered(2));
  const auto exits = host.wait_exits();
  ASSERT_EQ(exits.size(), 1U);
  EXPECT_EQ(exits[0].exit_code(), 6);
  const FakeMaster::Messages messages = host.master.messages();
  EXPECT_EQ(WorkerHost::output(messages), "before\nafter\n");
  for (const auto& message : messages) {
    if (!message.has_register_() || &message == &messages.front()) continue;
    ASSERT_EQ(message.register_().inventory_size(), 1);
    EXPECT_EQ(message.register_().inventory(0).job_id(), "j1");
  }
}

// The master says nothing, so the worker cannot know that output and exit have arrived.
TEST(Worker, TellsAgainInOrderWhatWasNotConfirmed) {
  WorkerHost host;
  host.master.acknowledge_output(false);
  host.master.answer_heartbeats(false);
  ASSERT_TRUE(host.registered());
  host.launch("echo last words; exit 6");
  ASSERT_EQ(host.wait_exits(1).size(), 1U);
  const size_t first_session = host.master.messages().size();
  host.master.drop_session();
  ASSERT_EQ(host.wait_exits(2).size(), 2U);
  std::string order;
  const FakeMaster::Messages messages = host.master.messages();
  for (size_t i = first_session; i < messages.size(); ++i) {
    if (messages[i].has_rank_output()) order += messages[i].rank_output().output().data();
    if (messages[i].rank_event().has_exited()) order += "exit";
  }
  EXPECT_EQ(order, "last words\nexit");
}

TEST(Worker, StopsItsRanksWhenTheMasterStaysAway) {
  WorkerSettings settings;
  settings.master_timeout = milliseconds(200);
  WorkerHost host(settings);
  ASSERT_TRUE(host.registered());
  host.launch("echo $$; exec sleep 1000");
  ASSERT_TRUE(host.printed("\n"));
  const pid_t rank = numbers(WorkerHost::output(host.master.messages())).at(0);
  EXPECT_TRUE(is_running(rank));
  host.master.stop();
  EXPECT_TRUE(eventually([&] { return !is_running(rank); }));
}

TEST(Worker, StopsLaunchesThatTheMasterDoesNotKnow) {
  WorkerHost host;
  ASSERT_TRUE(host.registered());
  host.launch("echo $$; exec sleep 1000");
  ASSERT_TRUE(host.printed("\n"));
  const pid_t rank = numbers(WorkerHost::output(host.master.messages())).at(0);
  host.master.answer_register(WorkerHost::over(/*output_wanted=*/false));
  host.master.drop_session();
  EXPECT_TRUE(eventually([&] { return !is_running(rank); }));
  EXPECT_TRUE(host.end());
  EXPECT_TRUE(WorkerHost::exits(host.master.messages()).empty());
}

// Whether the last registration still lists a launch.
bool lists_a_launch(const FakeMaster::Messages& messages) {
  bool lists = false;
  for (const auto& message : messages) {
    if (message.has_register_()) lists = message.register_().inventory_size() > 0;
  }
  return lists;
}

TEST(Worker, SendsTheOutputOfALaunchThatIsOverUntilTheMasterHasIt) {
  const testing::TempDir folder;
  WorkerSettings settings;
  settings.state_folder = folder.file("state");
  WorkerHost host(settings);
  ASSERT_TRUE(host.registered());
  host.master.acknowledge_output(false);
  host.launch("trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.02; done");
  ASSERT_TRUE(host.printed("up"));
  host.master.answer_register(WorkerHost::over(/*output_wanted=*/true));
  host.master.drop_session();
  ASSERT_TRUE(host.printed("up\nbye\n"));
  // The master may go away as often as it likes.
  for (const size_t times : {3U, 4U}) {
    host.master.drop_session();
    ASSERT_TRUE(host.registered(times));
    EXPECT_TRUE(lists_a_launch(host.master.messages()));
  }
  const std::string spool = settings.state_folder + "/spool/j1-1";
  EXPECT_TRUE(std::filesystem::exists(spool)) << "nobody has it yet";
  // A master that is away takes nothing of what the last session still carries.
  host.master.stop();
  const size_t before = host.master.messages().size();
  host.master.acknowledge_output(true);
  host.master.start_again();
  EXPECT_TRUE(eventually([&] { return !std::filesystem::exists(spool); }));
  const FakeMaster::Messages messages = host.master.messages();
  const FakeMaster::Messages last(messages.begin() + static_cast<std::ptrdiff_t>(before),
                                  messages.end());
  EXPECT_EQ(WorkerHost::output(last), "up\nbye\n") << "all of it again, none was acknowledged";
  EXPECT_TRUE(WorkerHost::exits(messages).empty());
  EXPECT_TRUE(host.end());
}

TEST(Worker, ThrowsTheOutputOfALaunchAwayThatNobodyWants) {
  const testing::TempDir folder;
  WorkerSettings settings;
  settings.state_folder = folder.file("state");
  WorkerHost host(settings);
  ASSERT_TRUE(host.registered());
  host.launch("trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.02; done");
  ASSERT_TRUE(host.printed("up"));
  host.master.answer_register(WorkerHost::over(/*output_wanted=*/false));
  host.master.drop_session();
  EXPECT_TRUE(
      eventually([&] { return !std::filesystem::exists(settings.state_folder + "/spool/j1-1"); }));
  EXPECT_TRUE(host.end());
  EXPECT_EQ(WorkerHost::output(host.master.messages()), "up\n");
}

TEST(Worker, EndsWhenTheMasterRefusesIt) {
  FakeMaster master;
  v1::MasterMessage answer;
  answer.mutable_refused()->set_reason("another version");
  master.answer_register(answer);
  WorkerSettings settings;
  settings.master = master.address();
  Worker worker(settings);
  const Result<void> ended = worker.run();
  ASSERT_FALSE(ended);
  EXPECT_NE(ended.failure().message.find("another version"), std::string::npos);
  EXPECT_NE(ended.failure().message.find(master.address()), std::string::npos);
}

TEST(Worker, ShutdownStopsItsRanksTellsTheMasterAndLeavesNothing) {
  const testing::TempDir parent;
  WorkerSettings settings;
  settings.state_folder = parent.file("state");
  WorkerHost host(settings);
  ASSERT_TRUE(host.registered());
  host.launch("trap 'echo saved; exit 2' TERM; echo up; while :; do sleep 0.02; done", 2);
  ASSERT_TRUE(host.printed("up", 0));
  ASSERT_TRUE(host.printed("up", 1));
  EXPECT_TRUE(host.end());
  const auto exits = WorkerHost::exits(host.master.messages());
  ASSERT_EQ(exits.size(), 2U);
  for (const auto& exit : exits) {
    EXPECT_EQ(exit.exit_code(), 2);
    EXPECT_TRUE(exit.stopped_by_us());
  }
  EXPECT_EQ(WorkerHost::output(host.master.messages()), "up\nsaved\n");
  EXPECT_FALSE(std::filesystem::exists(parent.file("state") + "/spool"));
  EXPECT_FALSE(std::filesystem::exists(parent.file("state") + "/agent.sock"));
}

TEST(Worker, ASecondShutdownKillsAtOnce) {
  WorkerSettings settings;
  settings.grace = milliseconds(60'000);
  WorkerHost host(settings);
  ASSERT_TRUE(host.registered());
  host.launch("trap '' TERM; echo up; while :; do sleep 0.02; done");
  ASSERT_TRUE(host.printed("up"));
  EXPECT_TRUE(host.end(true));
  const auto exits = WorkerHost::exits(host.master.messages());
  ASSERT_EQ(exits.size(), 1U);
  EXPECT_EQ(exits[0].signal(), SIGKILL);
}

TEST(Worker, ShutdownDoesNotWaitForAMasterThatIsNotThere) {
  WorkerSettings settings;
  settings.master = "127.0.0.1:1";
  Worker worker(settings);
  Result<void> ended = Failure{};
  Thread thread("worker", [&] { ended = worker.run(); });
  worker.shutdown();
  thread.join();
  EXPECT_TRUE(ended);
}

TEST(Worker, RefusesAMasterAddressThatIsNone) {
  for (const char* address : {"", "localhost", "localhost:", ":7700", "host:0", "host:99999"}) {
    WorkerSettings settings;
    settings.master = address;
    Worker worker(settings);
    const Result<void> ended = worker.run();
    ASSERT_FALSE(ended) << address;
    EXPECT_EQ(ended.failure().kind, ErrorKind::kInvalid) << address;
  }
}

}  // namespace
}  // namespace longhaul

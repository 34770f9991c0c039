// What a worker finds on its host: programs, the environment of ranks, its state folder.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/thread.h"
#include "control/worker/host/event_loop.h"
#include "control/worker/host/host_facts.h"
#include "control/worker/host/slot_budget.h"
#include "control/worker/host/state_folder.h"
#include "control/worker/process/folder_remover.h"
#include "control/worker/process/program_check.h"
#include "control/worker/process/rank_environment.h"
#include "control/worker/session/store_relay.h"
#include "longhaul/base/strings.h"
#include "tests/support/temp_dir.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

std::string write_file(const testing::TempDir& folder, const std::string& name, mode_t mode) {
  const std::string path = folder.file(name);
  std::ofstream(path) << "#!/bin/sh\n";
  ::chmod(path.c_str(), mode);
  return path;
}

TEST(FindProgram, FindsItAsAShellWould) {
  const testing::TempDir folder;
  const std::string program = write_file(folder, "train", 0755);
  const std::string directory = folder.path().string();
  EXPECT_EQ(*find_program(program, "", ""), program);
  EXPECT_EQ(*find_program("./train", directory, ""), program);
  EXPECT_EQ(*find_program("train", "/", "/nowhere:" + directory), program);
  EXPECT_EQ(*find_program("sh", "", "/nowhere:/bin"), "/bin/sh");
}

TEST(FindProgram, SaysWhatIsWrongAndWhereItLooked) {
  const testing::TempDir folder;
  write_file(folder, "data", 0644);
  const std::string directory = folder.path().string();
  const auto error = [](const Result<std::string>& found) {
    return found ? "found " + *found : found.failure().message;
  };
  EXPECT_EQ(error(find_program("./char_gpt", directory, "")),
            "./char_gpt: no such file (working directory " + directory + ")");
  EXPECT_EQ(error(find_program("/no/char_gpt", directory, "")), "/no/char_gpt: no such file");
  EXPECT_EQ(error(find_program("./data", directory, "")),
            "./data: not executable (working directory " + directory + ")");
  EXPECT_EQ(error(find_program("data", "", directory)), directory + "/data: not executable");
  EXPECT_EQ(error(find_program(directory, "", "")), directory + ": is a folder, not a program");
  EXPECT_EQ(error(find_program("char_gpt", "", "/bin:/usr/bin")),
            "char_gpt: no such program in PATH (/bin:/usr/bin)");
  EXPECT_EQ(error(find_program("sh", "/no/folder", "/bin")),
            "working directory /no/folder: no such folder");
  EXPECT_EQ(error(find_program("sh", folder.file("data"), "/bin")),
            "working directory " + folder.file("data") + ": not a folder");
  EXPECT_EQ(error(find_program("", "", "/bin")), "the command is empty");
}

TEST(FindProgram, TheExitCodesAreAShells) {
  const testing::TempDir folder;
  write_file(folder, "data", 0644);
  const std::string directory = folder.path().string();
  const auto code = [](const Result<std::string>& found) {
    return cannot_start_code(found.failure());
  };
  EXPECT_EQ(code(find_program("./char_gpt", directory, "")), 127);
  EXPECT_EQ(code(find_program("char_gpt", "", "/bin")), 127);
  EXPECT_EQ(code(find_program("sh", "/no/folder", "/bin")), 127);
  EXPECT_EQ(code(find_program("./data", directory, "")), 126);
  EXPECT_EQ(code(find_program("data", "", directory)), 126);
  EXPECT_EQ(code(find_program(directory, "", "")), 126);
}

TEST(SlotBudget, FewerSlotsWhereDescriptorsAreShort) {
  EXPECT_EQ(slots_that_fit(0), 1);
  EXPECT_EQ(slots_that_fit(kReservedDescriptors), 1);
  EXPECT_EQ(slots_that_fit(kReservedDescriptors + 10 * kDescriptorsPerSlot + 1), 10);
  EXPECT_GT(slots_that_fit(1'000'000), 100'000);
}

RankPlace place() {
  RankPlace place;
  place.job_id = "j7";
  place.generation = 3;
  place.rank = 5;
  place.world_size = 7;
  place.local_rank = 1;
  place.local_world_size = 4;
  place.node_rank = 1;
  place.node_count = 2;
  place.master_address = "10.0.0.1";
  place.master_port = 29500;
  place.host_address = "10.0.0.2";
  place.agent_address = "unix:/tmp/a.sock";
  place.agent_token = "secret";
  return place;
}

TEST(RankEnvironment, SpeaksTorchrunsLanguageAndOurs) {
  const Environment env = rank_environment({}, {}, place(), 8);
  const Environment expected = {
      {"RANK", "5"},
      {"WORLD_SIZE", "7"},
      {"LOCAL_RANK", "1"},
      {"LOCAL_WORLD_SIZE", "4"},
      {"GROUP_RANK", "1"},
      {"GROUP_WORLD_SIZE", "2"},
      {"NODE_RANK", "1"},
      {"ROLE_RANK", "5"},
      {"ROLE_WORLD_SIZE", "7"},
      {"ROLE_NAME", "default"},
      {"MASTER_ADDR", "10.0.0.1"},
      {"MASTER_PORT", "29500"},
      {"TORCHELASTIC_RUN_ID", "j7"},
      {"TORCHELASTIC_RESTART_COUNT", "0"},
      {"TORCHELASTIC_MAX_RESTARTS", "0"},
      {"TORCHELASTIC_USE_AGENT_STORE", "False"},
      {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"},
      {"OMP_NUM_THREADS", "2"},
      {"PYTHONFAULTHANDLER", "1"},
      {"LONGHAUL_JOB_ID", "j7"},
      {"LONGHAUL_TASK_ID", "5"},
      {"LONGHAUL_GENERATION", "3"},
      {"LONGHAUL_ATTEMPT", "1"},
      {"LONGHAUL_HOST_ADDRESS", "10.0.0.2"},
      {"LONGHAUL_AGENT", "unix:/tmp/a.sock"},
      {"LONGHAUL_AGENT_TOKEN", "secret"},
  };
  EXPECT_EQ(env, expected);
}

TEST(RankEnvironment, TheJobOverridesTheWorkerAndThePlaceOverridesBoth) {
  const Environment env = rank_environment({{"A", "worker"}, {"B", "worker"}, {"RANK", "9"}},
                                           {{"B", "job"}, {"OMP_NUM_THREADS", "3"}}, place(), 8);
  EXPECT_EQ(env.at("A"), "worker");
  EXPECT_EQ(env.at("B"), "job");
  EXPECT_EQ(env.at("RANK"), "5");
  EXPECT_EQ(env.at("OMP_NUM_THREADS"), "3");
}

TEST(RankEnvironment, PythonSaysWhereItCrashesAndWhatItDiesOf) {
  RankPlace told = place();
  told.error_file = "/state/rank/error.json";
  const Environment env = rank_environment({{"PYTHONFAULTHANDLER", "0"}}, {}, told, 8);
  EXPECT_EQ(env.at("PYTHONFAULTHANDLER"), "0");
  EXPECT_EQ(env.at("TORCHELASTIC_ERROR_FILE"), "/state/rank/error.json");
}

// Else PyTorch takes the one that the host's name resolves to: on Debian, loopback.
TEST(RankEnvironment, PythonTakesTheInterfaceOfTheWorkersAddressUnlessToldAnother) {
  RankPlace told = place();
  EXPECT_EQ(rank_environment({}, {}, told, 8).count("GLOO_SOCKET_IFNAME"), 0U) << "none has it";
  told.interface = "eth1";
  const Environment env =
      rank_environment({{"NCCL_SOCKET_IFNAME", "ib0"}}, {{"TP_SOCKET_IFNAME", "eth9"}}, told, 8);
  EXPECT_EQ(env.at("GLOO_SOCKET_IFNAME"), "eth1");
  EXPECT_EQ(env.at("TP_SOCKET_IFNAME"), "eth9") << "the job's";
  EXPECT_EQ(env.at("NCCL_SOCKET_IFNAME"), "ib0") << "the worker's";
  EXPECT_EQ(rank_environment({}, {}, told, 8).at("NCCL_SOCKET_IFNAME"), "=eth1")
      << "not eth10, too";
}

TEST(HostFacts, AnInterfaceIsFoundByItsAddress) {
  EXPECT_EQ(interface_of("127.0.0.1"), "lo");
  EXPECT_EQ(interface_of("localhost"), "lo");
  EXPECT_EQ(interface_of("192.0.2.77"), "") << "nobody's";
  EXPECT_EQ(interface_of(""), "");
  EXPECT_EQ(interface_of("no such host"), "");
}

TEST(StoreRelayNumbers, CountFromTheStartOfTheHostAndNotFromTheWallClock) {
  EventLoop loop;
  StoreRelay relay(loop, "master:1", [](const v1::WorkerMessage&) {});
  const uint64_t first = relay.next_id();
  EXPECT_GT(relay.next_id(), first);
  timespec up{};
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  EXPECT_LE(first >> 10, static_cast<uint64_t>(up.tv_sec + 1) * 1'000'000);
  StoreRelay next(loop, "master:1", [](const v1::WorkerMessage&) {});
  EXPECT_GT(next.next_id(), first) << "of a worker that takes over";
}

TEST(RankEnvironment, ThreadsAreSharedOnlyWhenRanksShareTheHost) {
  RankPlace alone = place();
  alone.local_world_size = 1;
  EXPECT_EQ(rank_environment({}, {}, alone, 8).count("OMP_NUM_THREADS"), 0U);
  EXPECT_EQ(rank_environment({}, {}, place(), 2).at("OMP_NUM_THREADS"), "1");
}

TEST(StateFolder, IsPrivateAndGoesWithItsOwner) {
  std::string path;
  {
    const Result<StateFolder> folder = StateFolder::open("");
    ASSERT_TRUE(folder) << folder.failure().message;
    path = folder->path();
    struct stat info{};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0700U);
    EXPECT_TRUE(std::filesystem::is_directory(folder->spools()));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(StateFolder, IsUsedByOneWorkerAtATime) {
  const testing::TempDir parent;
  const Result<StateFolder> first = StateFolder::open(parent.file("state"));
  ASSERT_TRUE(first);
  const Result<StateFolder> second = StateFolder::open(parent.file("state"));
  ASSERT_FALSE(second);
  EXPECT_NE(second.failure().message.find(parent.file("state")), std::string::npos);
}

TEST(StateFolder, ALongPathGetsAShortSocket) {
  const testing::TempDir parent;
  const std::string path = parent.file(std::string(100, 'x'));
  std::string socket;
  {
    const Result<StateFolder> folder = StateFolder::open(path);
    ASSERT_TRUE(folder);
    socket = folder->socket();
    EXPECT_LT(socket.size(), 108U);
  }
  EXPECT_TRUE(std::filesystem::exists(path));
  EXPECT_FALSE(std::filesystem::exists(std::filesystem::path(socket).parent_path()));
}

TEST(StateFolder, AWorkerThatComesAfterAKilledOneFindsItsPlace) {
  const testing::TempDir parent;
  for (const std::string& path : {parent.file("short"), parent.file(std::string(100, 'x'))}) {
    const pid_t killed = ::fork();
    if (killed == 0) {
      const Result<StateFolder> folder = StateFolder::open(path);
      std::ofstream(parent.file("socket")) << folder->socket();
      std::filesystem::create_directory(folder->spools() + "/j1-1");
      ::_exit(0);
    }
    ASSERT_EQ(::waitpid(killed, nullptr, 0), killed);
    std::string socket;
    std::ifstream(parent.file("socket")) >> socket;
    {
      const Result<StateFolder> folder = StateFolder::open(path);
      ASSERT_TRUE(folder) << folder.failure().message;
      EXPECT_EQ(folder->socket(), socket) << "ranks look for their worker there";
    }
    EXPECT_TRUE(std::filesystem::exists(path + "/spool/j1-1")) << "not looked at: left to the next";
    std::filesystem::remove(path + "/spool/j1-1");
    {
      const Result<StateFolder> folder = StateFolder::open(path);
    }
    EXPECT_TRUE(std::filesystem::is_directory(path));
    EXPECT_FALSE(std::filesystem::exists(path + "/spool"));
    EXPECT_FALSE(std::filesystem::is_symlink(path + "/socket-folder"));
  }
}

TEST(FreePort, IsOneEvenWhenTheAddressIsNotThisHosts) {
  EXPECT_GT(*free_port("127.0.0.1"), 0);
  EXPECT_GT(*free_port("203.0.113.7"), 0);
}

void fill(const std::string& folder, int files) {
  fs::create_directories(folder + "/deep");
  for (int file = 0; file < files; ++file) std::ofstream(str_cat(folder, "/deep/", file)) << file;
}

TEST(FolderRemover, FreesTheNameAtOnceAndLeavesNothing) {
  const testing::TempDir folder;
  const std::string trash = folder.file("trash");
  {
    FolderRemover remover(trash);
    for (int round = 0; round < 3; ++round) {
      fill(folder.file("rank"), 2000);
      remover.remove(folder.file("rank"));
      EXPECT_FALSE(fs::exists(folder.file("rank")));
    }
    remover.remove(folder.file("nothing"));
  }
  EXPECT_TRUE(fs::is_empty(folder.file(".")));
}

// On a full disk the trash cannot be made: what takes the room must go all the same.
TEST(FolderRemover, RemovesWithoutATrashToo) {
  const testing::TempDir folder;
  fill(folder.file("rank"), 10);
  FolderRemover remover("/proc/self/nowhere/trash");
  remover.remove(folder.file("rank"));
  EXPECT_FALSE(fs::exists(folder.file("rank")));
}

TEST(FolderRemover, RemovesWhatAKilledOneLeftAndWhatItCannotMove) {
  const testing::TempDir folder;
  fill(folder.file("trash/of-another"), 10);
  {
    const FolderRemover remover(folder.file("trash"));
  }
  EXPECT_FALSE(fs::exists(folder.file("trash")));
  std::ofstream(folder.file("trash")) << "a file in its place";
  fill(folder.file("rank"), 10);
  FolderRemover remover(folder.file("trash"));
  remover.remove(folder.file("rank"));
  EXPECT_FALSE(fs::exists(folder.file("rank")));
}

TEST(EventLoop, RunsTasksTimersAndDescriptorsOnOneThread) {
  EventLoop loop;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  std::string order;
  loop.watch(read_end.get(), [&] {
    order += "d";
    loop.unwatch(read_end.get());
    loop.after(milliseconds(1), [&] {
      order += "t";
      loop.stop();
    });
  });
  loop.cancel(loop.after(milliseconds(0), [&] { order += "cancelled"; }));
  const Thread other("other", [&] {
    loop.post([&] {
      order += "p";
      write_end.reset();
    });
  });
  loop.run();
  EXPECT_EQ(order, "pdt");
  EXPECT_FALSE(loop.post([] {}));
}

TEST(EventLoop, WhatStandsInLineLeavesRoomBetween) {
  EventLoop loop;
  std::string order;
  const auto step = [&](const char* name) {
    return [&order, &loop, name] {
      order += name;
      loop.post([&order] { order += "p"; });
    };
  };
  loop.in_own_turn(step("1"));
  const EventLoop::TimerId dropped = loop.in_own_turn(step("dropped"));
  loop.in_own_turn(step("2"));
  loop.in_own_turn([&] {
    step("3")();
    loop.in_own_turn([&loop] { loop.stop(); });
  });
  loop.cancel(dropped);
  loop.run();
  EXPECT_EQ(order, "1p2p3p");
}

}  // namespace
}  // namespace longhaul

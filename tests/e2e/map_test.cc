// Arrays: work is split into tasks and their results are gathered, each once, whatever dies
// meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

std::string numbers(int first, int last, const std::string& before = "") {
  std::string text;
  for (int number = first; number <= last; ++number) text += str_cat(before, number, "\n");
  return text;
}

std::string results_of(Cluster& cluster, const std::string& job,
                       const std::vector<std::string>& flags = {}) {
  std::vector<std::string> arguments = {"results", job};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  EXPECT_EQ(cluster.longhaul_to_end(arguments), 0) << cluster.last().err();
  return cluster.last().out();
}

TEST(Map, GathersEveryResultInTaskOrder) {
  Cluster cluster;
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--array", "10-59", "--", "sh", "-c", "echo {}"}), 0);
  EXPECT_THAT(cluster.last().err(), HasSubstr("50/50 tasks 100%"));
  EXPECT_EQ(results_of(cluster, "last"), numbers(10, 59));
}

TEST(Map, TakesLinesFilesAndJson) {
  Cluster cluster;
  std::ofstream(cluster.file("lines")) << "one two\nthree\n";
  EXPECT_EQ(
      cluster.longhaul_to_end({"map", "--each-line", cluster.file("lines"), "--", "echo", "<{}>"}),
      0);
  EXPECT_EQ(results_of(cluster, "last"), "<one two>\n<three>\n");
  std::ofstream(cluster.file("json")) << R"(["text", 7, {"a": [1, 2]}])";
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--from-json", cluster.file("json"), "--batch", "2",
                                     "--", "sh", "-c", "printf '%s\\n' \"$LONGHAUL_INPUT\""}),
            0);
  EXPECT_EQ(results_of(cluster, "last"), "text\n7\n{\"a\":[1,2]}\n");
  std::filesystem::create_directory(cluster.file("folder"));
  for (const char* name : {"b", "a"})
    std::ofstream(cluster.file("folder") + "/" + name) << name << "\n";
  EXPECT_EQ(
      cluster.longhaul_to_end({"map", "--each-file", cluster.file("folder"), "--", "cat", "{}"}),
      0);
  EXPECT_EQ(results_of(cluster, "last"), "a\nb\n");
}

TEST(Map, AFileCanBeTheResultAndEveryByteOfItComesBack) {
  Cluster cluster;
  EXPECT_EQ(cluster.longhaul_to_end(
                {"map", "--array", "0-2", "--", "sh", "-c",
                 "echo noise; head -c 3000000 /dev/zero > $LONGHAUL_RESULT; printf '{}\\377' >> "
                 "$LONGHAUL_RESULT"}),
            0);
  results_of(cluster, "last", {"--out", cluster.file("out")});
  for (int task = 0; task < 3; ++task) {
    EXPECT_EQ(read_text(str_cat(cluster.file("out"), "/", task)),
              std::string(3'000'000, '\0') + std::to_string(task) + "\377");
  }
}

TEST(Map, TakesMoreInputsThanFitAMessageOrMemory) {
  Cluster cluster;
  constexpr int kLines = 2100;
  {
    std::ofstream lines(cluster.file("lines"));
    for (int line = 0; line < kLines; ++line) {
      lines << line << " " << std::string(100'000, 'x') << "\n";
    }
  }
  EXPECT_EQ(
      cluster.longhaul_to_end({"map", "--each-line", cluster.file("lines"), "-d", "--batch", "20",
                               "--", "sh", "-c", "set -- $LONGHAUL_INPUT; echo $1 ${#2}"}),
      0)
      << cluster.last().err();
  // 210 MB have come, and the master has never held them.
  const std::string status = read_text(str_cat("/proc/", cluster.master().pid(), "/status"));
  EXPECT_LT(std::stoi(status.substr(status.find("VmHWM:") + 6)) / 1024, 150);
  cluster.restart_master();
  ChildProcess& results = cluster.longhaul({"results", "last", "-f"});
  EXPECT_EQ(results.wait(std::chrono::seconds(100)), 0) << results.err() << cluster.logs();
  std::string expected;
  for (int line = 0; line < kLines; ++line) expected += str_cat(line, " 100000\n");
  EXPECT_EQ(results.out(), expected);
}

TEST(Map, ATaskThatKeepsFailingIsGivenUpAndReportedAndTheOthersGoOn) {
  Cluster cluster;
  EXPECT_EQ(
      cluster.longhaul_to_end({"map", "--array", "0-19", "--max-attempts", "2", "--", "sh", "-c",
                               "[ {} != 13 ] || { echo unlucky >&2; exit 4; }; echo {}"}),
      1);
  EXPECT_THAT(cluster.last().err(),
              HasSubstr("1 of 20 tasks was given up; task 13: exited with code 4: unlucky"));
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last"}), 1);
  EXPECT_EQ(cluster.last().out(), numbers(0, 12) + numbers(14, 19));
  EXPECT_EQ(cluster.longhaul_to_end({"status", "last", "-o", "json"}), 0);
  const nlohmann::json status = nlohmann::json::parse(cluster.last().out());
  EXPECT_EQ(status["array"]["given_up"], 1);
  EXPECT_EQ(status["array"]["done"], 19);
  EXPECT_EQ(status["array"]["first_given_up"][0]["task"], 13);
}

TEST(Map, AProgramThatNeverWorksStopsTheJob) {
  Cluster cluster;
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--array", "0-99999", "--", "/no/such/program"}), 127);
  EXPECT_THAT(cluster.last().err(), HasSubstr("none of the last 50 attempts succeeded"));
  EXPECT_THAT(cluster.last().err(), HasSubstr("/no/such/program"));
}

TEST(Map, AResultOverItsCapFailsItsTaskAlone) {
  Cluster cluster;
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--array", "0-3", "--max-result", "1", "--max-attempts",
                                     "1", "--", "sh", "-c",
                                     "[ {} != 2 ] || head -c 2000000 /dev/zero; echo {}"}),
            1);
  EXPECT_THAT(cluster.last().err(),
              HasSubstr("task 2: its result has 2.00 MB, more than the 1.05 MB"));
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last"}), 1);
  EXPECT_EQ(cluster.last().out(), "0\n1\n3\n");
}

TEST(Map, AProgramThatWasNeverStartedEndsAsAShellSaysIt) {
  Cluster cluster;
  std::ofstream(cluster.file("data")) << "text";
  EXPECT_EQ(cluster.longhaul_to_end(
                {"map", "--array", "0-2", "--max-attempts", "1", "--", "/no/such/program"}),
            127);
  EXPECT_EQ(
      cluster.longhaul_to_end({"map", "--array", "0-2", "--max-attempts", "1", "--", "./data"}),
      126);
  EXPECT_EQ(cluster.longhaul_to_end(
                {"map", "--array", "0-2", "--max-attempts", "1", "--", "sh", "-c", "exit 127"}),
            1);
}

TEST(Map, WhatGoesThroughAPipeOfTheScriptsOwnIsInTheResult) {
  Cluster cluster;
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--array", "0-9", "--", "bash", "-c",
                                     "exec > >(sleep 0.2; tee log.{}); seq 1000; echo end {}"}),
            0);
  std::string expected;
  for (int task = 0; task < 10; ++task) expected += numbers(1, 1000) + str_cat("end ", task, "\n");
  EXPECT_EQ(results_of(cluster, "last"), expected);
}

TEST(Map, AResultThatIsNoFileIsNotReplacedByWhatWasPrinted) {
  Cluster cluster;
  EXPECT_EQ(
      cluster.longhaul_to_end({"map", "--array", "0-3", "--max-attempts", "1", "--", "sh", "-c",
                               "echo printed; case {} in 0) mkdir $LONGHAUL_RESULT;; 1) mkfifo "
                               "$LONGHAUL_RESULT;; 2) ln -s /no/where $LONGHAUL_RESULT;; esac"}),
      1);
  EXPECT_THAT(cluster.last().err(), HasSubstr("3 of 4 tasks were given up"));
  EXPECT_THAT(cluster.last().err(), HasSubstr("its result cannot be read: $LONGHAUL_RESULT"));
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last"}), 1);
  EXPECT_EQ(cluster.last().out(), "printed\n");
}

TEST(Map, ATaskMayChangeItsFolderWhereverTheWorkersStateLies) {
  Cluster cluster({.workers = 0});
  cluster.add_worker(2, {"--state-dir", "relative/state"});
  EXPECT_EQ(cluster.longhaul_to_end(
                {"map", "--array", "0-3", "--", "sh", "-c", "cd / && echo {} > $LONGHAUL_RESULT"}),
            0);
  EXPECT_EQ(results_of(cluster, "last"), "0\n1\n2\n3\n");
}

TEST(Map, AtMostSoManyAtOnce) {
  Cluster cluster;
  EXPECT_EQ(
      cluster.longhaul_to_end({"map", "--array", "0-11%2", "--", "sh", "-c",
                               "mkdir running.$$ && ls -d running.* | wc -l; sleep 0.05; rmdir "
                               "running.$$"}),
      0);
  for (const char line : results_of(cluster, "last")) {
    if (line != '\n') {
      EXPECT_LE(line, '2');
    }
  }
}

TEST(Map, StoppedItCancelsWhatIsLeft) {
  Cluster cluster;
  ChildProcess& map =
      cluster.longhaul({"map", "--array", "0-99", "--", "sh", "-c", "touch up.0; sleep 1000"});
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(cluster.file("up.0")); }));
  cancel(map);
  EXPECT_EQ(map.wait(), 130);
  EXPECT_EQ(cluster.longhaul_to_end({"status", "last"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("100 cancelled"));
}

TEST(Map, BadInputIsOneClearLine) {
  Cluster cluster({.workers = 1, .slots = 1});
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"map", "--", "true"}, "name the tasks with one of"},
      {{"map", "--array", "5-1", "--", "true"}, "5-1"},
      {{"map", "--array", "0-9x", "--", "true"}, "9x"},
      {{"map", "--each-line", "no-such-file", "--", "true"}, "no-such-file: no such file"},
      {{"map", "--array", "1", "--each-line", "-", "--", "true"}, "name the tasks with one of"},
      {{"results", "j99"}, "no job 'j99'"},
  };
  for (const auto& [arguments, said] : cases) {
    EXPECT_EQ(cluster.longhaul_to_end(arguments), 64) << arguments[1];
    EXPECT_THAT(cluster.last().err(), HasSubstr(said));
  }
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--name", "gang", "--", "true"}), 0);
  EXPECT_EQ(cluster.longhaul_to_end({"results", "gang"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("is a gang"));
}

// --- Everything dies ---------------------------------------------------------------------------

TEST(MapUnderFire, EveryResultOnceWhileMasterAndWorkersAreKilled) {
  Cluster cluster({.workers = 2, .slots = 3, .keep_state = true});
  ChildProcess& map = cluster.longhaul(
      {"map", "--array", "0-799", "--batch", "3", "--", "sh", "-c", "echo r{}; sleep 0.01"});
  // A master that goes before it has ever answered is one that is not there.
  ASSERT_TRUE(eventually([&] { return cluster.longhaul_to_end({"status", "last"}) == 0; }));
  for (int round = 0; round < 9; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(150 + 37 * round % 200));
    if (round % 3 == 0) {
      cluster.restart_master();
    } else {
      cluster.restart_worker(static_cast<size_t>(round % 2));
    }
  }
  EXPECT_EQ(map.wait(), 0) << map.err();
  EXPECT_EQ(results_of(cluster, "last"), numbers(0, 799, "r"));
}

TEST(MapUnderFire, ResultsAreReadWhileItRunsAndAcrossARestart) {
  Cluster cluster;
  ChildProcess& map =
      cluster.longhaul({"map", "--array", "0-39", "--", "sh", "-c",
                        "while [ {} -ge 20 ] && [ ! -e go ]; do sleep 0.05; done; echo {}"});
  ASSERT_TRUE(eventually([&] { return map.err().find("20/40 tasks") != std::string::npos; }));
  EXPECT_EQ(results_of(cluster, "last"), numbers(0, 19));
  cluster.restart_master();
  EXPECT_EQ(results_of(cluster, "last", {"--from", "18"}), numbers(18, 19));
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(map.wait(), 0) << map.err();
  EXPECT_EQ(results_of(cluster, "last", {"-f"}), numbers(0, 39));
}

TEST(MapUnderFire, ASilentWorkersTasksGoElsewhereAndItsLateEndsAreRefused) {
  Cluster cluster({.workers = 2, .slots = 1, .lease = "1"});
  ChildProcess& map = cluster.longhaul(
      {"map", "--array", "0-9", "--", "sh", "-c", "touch up.{}; sleep 0.2; echo {}"});
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(cluster.file("up.0")); }));
  cluster.worker(0).kill(SIGSTOP);
  EXPECT_EQ(map.wait(), 0) << map.err();
  EXPECT_EQ(results_of(cluster, "last"), numbers(0, 9));
  cluster.worker(0).kill(SIGCONT);
  cluster.wait_for_workers(2);
  EXPECT_EQ(results_of(cluster, "last"), numbers(0, 9));
}

// The state is wiped while workers run its tasks: the next state gives the same numbers again, and
// its job gets what its own tasks gave.
TEST(WipedMaster, TheNextStatesJobsGetTheirOwnResults) {
  Cluster cluster({.workers = 1, .slots = 2});
  const auto map = [&](const std::string& word) {
    const std::string script = str_cat("touch ", word, ".{}; while [ ! -e go ]; do sleep 0.05; ",
                                       "done; echo ", word, " {}");
    return std::vector<std::string>{"map", "--array", "0-1", "--", "sh", "-c", script};
  };
  cluster.longhaul(map("old"));
  for (const char* up : {"old.0", "old.1"}) {
    ASSERT_TRUE(eventually([&] { return std::filesystem::exists(cluster.file(up)); }));
  }
  cluster.restart_master(Cluster::Memory::kForgotten);
  ChildProcess& next = cluster.longhaul(map("new"));
  for (const char* up : {"new.0", "new.1"}) {
    ASSERT_TRUE(eventually([&] { return std::filesystem::exists(cluster.file(up)); }));
  }
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(next.wait(), 0) << next.err();
  EXPECT_EQ(results_of(cluster, "j1"), "new 0\nnew 1\n");
}

TEST(Map, ALineWithoutAnEndIsRefusedAndNothingIsSubmitted) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--each-line", "/dev/zero", "--", "true", "{}"}), 64);
  EXPECT_THAT(cluster.last().err(), ::testing::HasSubstr("/dev/zero: line 1 is longer than"));
  EXPECT_EQ(cluster.longhaul_to_end({"ps", "--all", "-o", "json"}), 0);
  EXPECT_THAT(cluster.last().out(), ::testing::HasSubstr("\"jobs\":[]"));
}

}  // namespace
}  // namespace longhaul::testing

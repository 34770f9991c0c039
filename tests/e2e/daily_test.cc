// A day with the command line: terminals that are closed, jobs that somebody stopped, lists, logs
// and results as people and their scripts read them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/printable.h"
#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/e2e/json_of.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::vector<nlohmann::json> rows_of(Cluster& cluster, int exit_code,
                                    const std::vector<std::string>& arguments) {
  EXPECT_EQ(cluster.longhaul_to_end(arguments), exit_code) << cluster.last().err();
  std::vector<nlohmann::json> rows;
  std::istringstream lines(cluster.last().out());
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

// What a terminal of 80 columns gets of a command.
std::string on_a_terminal(Cluster& cluster, std::vector<std::string> arguments) {
  std::vector<std::string> command = {"python3", "-c",
                                      "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)",
                                      program("longhaul")};
  command.insert(command.end(), arguments.begin(), arguments.end());
  ChildProcess& terminal = cluster.start_in_folder(command);
  EXPECT_EQ(terminal.wait(), 0) << terminal.err();
  return terminal.out();
}

// --- A terminal is closed ------------------------------------------------------------------------

TEST(ClosedTerminal, LeavesTheJobAlone) {
  Cluster cluster;
  ChildProcess& run =
      cluster.longhaul({"run", "--", rank_program(), "touch=up", "await=go", "out=done"});
  const pid_t rank = cluster.wait_for_touch("up", 0);
  run.kill(SIGHUP);
  EXPECT_EQ(run.wait(), 129);
  EXPECT_THAT(run.err(), AllOf(HasSubstr("job j1 runs on: `longhaul logs j1 -f` shows it"),
                               Not(HasSubstr("stopping"))));
  EXPECT_TRUE(is_running(rank));
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(cluster.longhaul_to_end({"wait", "last"}), 0);
}

TEST(ClosedTerminal, AfterOneCtrlCLeavesItAloneToo) {
  Cluster cluster;
  ChildProcess& run =
      cluster.longhaul({"run", "--", rank_program(), "touch=up", "await=go", "out=done"});
  cluster.wait_for_touch("up", 0);
  run.kill(SIGINT);
  ASSERT_TRUE(eventually([&] { return run.err().find("leaving job") != std::string::npos; }));
  run.kill(SIGHUP);
  ASSERT_TRUE(run.wait());
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(cluster.longhaul_to_end({"wait", "last"}), 0);
}

TEST(ClosedTerminal, LeavesAnArrayAlone) {
  Cluster cluster;
  ChildProcess& map = cluster.longhaul({"map", "--array", "0-3", "--", "sh", "-c",
                                        "touch up.{}; while [ ! -e go ]; do sleep 0.05; done"});
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(cluster.file("up.0")); }));
  map.kill(SIGHUP);
  EXPECT_EQ(map.wait(), 129);
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(cluster.longhaul_to_end({"wait", "last"}), 0);
}

TEST(ClosedTerminal, EndsAStandaloneJobWhoseDaemonsItHolds) {
  Cluster cluster({.daemons = false});
  ChildProcess& run =
      cluster.longhaul({"run", "--standalone", "--", rank_program(), "touch=up", "nap"});
  const pid_t rank = cluster.wait_for_touch("up", 0);
  run.kill(SIGHUP);
  EXPECT_EQ(run.wait(), 129);
  EXPECT_TRUE(eventually([&] { return !is_running(rank); }));
}

// --- Who was it ----------------------------------------------------------------------------------

TEST(WhoStoppedIt, IsToldByEveryCommandAndSurvivesTheMaster) {
  Cluster cluster;
  ASSERT_EQ(cluster.longhaul_to_end({"run", "-d", "--", rank_program(), "touch=up", "nap"}), 0);
  cluster.wait_for_touch("up", 0);
  ASSERT_EQ(cluster.longhaul_to_end({"stop", "j1", "--force"}), 0);
  cluster.longhaul_to_end({"wait", "j1"});
  cluster.restart_master();
  const std::string command = "longhaul stop j1 --force";
  const nlohmann::json by = json_of(cluster, {"status", "j1", "-o", "json"})["stopped_by"];
  EXPECT_EQ(by["command"], command);
  EXPECT_NE(by["user"], "");
  EXPECT_NE(by["host"], "");
  EXPECT_GT(by["unix_ms"], 0);
  const std::string who = str_cat(by["user"].get<std::string>(), " on ",
                                  by["host"].get<std::string>(), " (", command, ")");
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"status", "j1"},
                                                    {"explain", "j1"},
                                                    {"events", "j1"},
                                                    {"ps", "-aw"}}) {
    ASSERT_EQ(cluster.longhaul_to_end(arguments), 0);
    EXPECT_THAT(cluster.last().out(), HasSubstr(who)) << arguments[0];
  }
}

TEST(WhoStoppedIt, ASignalToRunIsToldAsSuch) {
  Cluster cluster;
  ChildProcess& run = cluster.longhaul({"run", "--", rank_program(), "touch=up", "nap"});
  cluster.wait_for_touch("up", 0);
  run.kill(SIGTERM);
  EXPECT_EQ(run.wait(), 143);
  EXPECT_EQ(json_of(cluster, {"status", "j1", "-o", "json"})["stopped_by"]["command"],
            "longhaul run, by SIGTERM");
}

TEST(WhoStoppedIt, TheSecondOneIsInTheJournal) {
  Cluster cluster;
  ASSERT_EQ(cluster.longhaul_to_end(
                {"run", "-d", "--grace", "1000", "--", rank_program(), "deaf", "touch=up", "nap"}),
            0);
  cluster.wait_for_touch("up", 0);
  ASSERT_EQ(cluster.longhaul_to_end({"stop", "j1"}), 0);
  ASSERT_EQ(cluster.longhaul_to_end({"stop", "j1", "--force"}), 0);
  EXPECT_EQ(cluster.longhaul_to_end({"wait", "j1"}), 143);
  ASSERT_EQ(cluster.longhaul_to_end({"events", "j1"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("(longhaul stop j1 --force)"));
  EXPECT_EQ(json_of(cluster, {"status", "j1", "-o", "json"})["stopped_by"]["command"],
            "longhaul stop j1");
}

TEST(Stop, SeveralPatternsOrAll) {
  Cluster cluster({.workers = 1, .slots = 8});
  for (const char* name : {"night-1", "night-2", "day", "other", "last-one"}) {
    ASSERT_EQ(cluster.longhaul_to_end({"run", "-d", "--name", name, "--", "sleep", "1000"}), 0);
  }
  ASSERT_EQ(cluster.longhaul_to_end({"stop", "night-*", "day"}), 0);
  EXPECT_THAT(cluster.last().out(),
              AllOf(StartsWith("job j1 "), HasSubstr("\njob j2 "), HasSubstr("\njob j3 ")));
  EXPECT_EQ(cluster.longhaul_to_end({"stop", "nothing-*", "other"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("no job that has not ended matches 'nothing-*'"));
  EXPECT_EQ(cluster.longhaul_to_end({"stop", "no-such-job", "other"}), 64)
      << "the other is stopped";
  EXPECT_THAT(cluster.last().out(), HasSubstr("job j4 "));
  ASSERT_EQ(cluster.longhaul_to_end({"stop", "--all"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("job j5 "));
  for (const char* job : {"j1", "j2", "j3", "j4", "j5"}) {
    EXPECT_EQ(cluster.longhaul_to_end({"wait", job}), 143) << job;
  }
  EXPECT_EQ(cluster.longhaul_to_end({"stop", "--all"}), 0);
  EXPECT_THAT(cluster.last().err(), HasSubstr("no job is there to be stopped"));
  EXPECT_EQ(cluster.longhaul_to_end({"stop"}), 64);
}

// --- Lists and logs
// --------------------------------------------------------------------------------

TEST(Lists, FitEightyColumns) {
  Cluster cluster({.workers = 1, .slots = 2});
  ASSERT_EQ(
      cluster.longhaul_to_end({"run", "-d", "--name", std::string(60, 'n'), "--", rank_program(),
                               "join", "report=3/10", "touch=up", "nap", std::string(300, 'x')}),
      0);
  cluster.wait_for_touch("up", 0);
  ASSERT_TRUE(eventually([&] {
    return cluster.longhaul_to_end({"ps"}) == 0 &&
           cluster.last().out().find(" 30% ") != std::string::npos;
  })) << cluster.last().out();
  for (const std::string& line : split(cluster.last().out(), '\n')) EXPECT_LE(line.size(), 80u);
  ASSERT_EQ(cluster.longhaul_to_end({"ps", "--wide"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr(std::string(300, 'x')));
  ChildProcess& watch = cluster.longhaul({"ps", "--watch", "--every", "50ms"});
  ASSERT_TRUE(eventually([&] {
    const std::string seen = watch.out();
    return seen.find("JOB", seen.find("JOB") + 1) != std::string::npos;
  }));
  watch.kill(SIGINT);
  EXPECT_EQ(watch.wait(), 130);
}

TEST(Logs, TheLastLinesAndThoseThatMatch) {
  Cluster cluster;
  std::vector<std::string> run = {"run", "-d", "--", rank_program()};
  for (int line = 0; line < 30; ++line) run.push_back(str_cat("out=step ", line));
  run.insert(run.end(), {"touch=up", "await=go", "out=step last"});
  ASSERT_EQ(cluster.longhaul_to_end(run), 0);
  ASSERT_TRUE(eventually([&] {
    return cluster.longhaul_to_end({"logs", "j1", "--tail", "2"}) == 0 &&
           cluster.last().out() == "[0] step 28\n[0] step 29\n";
  })) << cluster.last().out();
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "j1", "--grep", "step 1?5$"}), 0);
  EXPECT_EQ(cluster.last().out(), "[0] step 5\n[0] step 15\n");
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "j1", "--grep", "5", "--tail", "1"}), 0);
  EXPECT_EQ(cluster.last().out(), "[0] step 25\n");
  EXPECT_EQ(cluster.longhaul_to_end({"logs", "j1", "--grep", "(open"}), 64);
  ChildProcess& follow =
      cluster.longhaul({"logs", "j1", "--grep", "step [0-9l]", "--tail", "1", "-f"});
  ASSERT_TRUE(eventually([&] { return follow.out() == "[0] step 29\n"; })) << follow.out();
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(follow.wait(), 0);
  EXPECT_EQ(follow.out(), "[0] step 29\n[0] step last\n");
}

TEST(Logs, TheStderrOfEachTaskIsKept) {
  Cluster cluster({.workers = 2, .slots = 2});
  ASSERT_EQ(cluster.longhaul_to_end({"map", "--array", "500-503", "--", "sh", "-c",
                                     "echo warn {} >&2; printf partly >&2; echo {}"}),
            0);
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last", "--task", "502"}), 0);
  EXPECT_EQ(cluster.last().err(), "[502] warn 502\n[502] partly\n");
  EXPECT_EQ(cluster.last().out(), "");
  cluster.restart_master();
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last", "--task", "500", "--task", "503"}), 0);
  EXPECT_THAT(cluster.last().err(),
              AllOf(HasSubstr("[500] warn 500\n[500] partly\n"),
                    HasSubstr("[503] warn 503\n[503] partly\n"), Not(HasSubstr("[501]"))));
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last", "--grep", "warn"}), 0);
  EXPECT_THAT(cluster.last().err(), AllOf(HasSubstr("[501] warn"), HasSubstr("[502] warn")));
  EXPECT_EQ(cluster.longhaul_to_end({"logs", "last", "--task", "7"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("is called 7: they are 500-503"));
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--", "true"}), 0);
  EXPECT_EQ(cluster.longhaul_to_end({"logs", "last", "--task", "0"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("is no array"));
}

TEST(Logs, OfATaskAreThoseOfEachAttemptAndTheEndOfWhatIsLong) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--array", "3", "--max-attempts", "2", "--", "sh", "-c",
                                     "echo try $LONGHAUL_ATTEMPT >&2; exit 1"}),
            1);
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last", "--task", "3"}), 0);
  EXPECT_EQ(cluster.last().err(), "[3] try 1\n[3] try 2\n");
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last", "--task", "3", "--attempt", "2"}), 0);
  EXPECT_EQ(cluster.last().err(), "[3] try 2\n");
  ASSERT_EQ(cluster.longhaul_to_end({"map", "--array", "1", "--", "sh", "-c", "seq 100000 >&2"}),
            0);
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last"}), 0);
  const std::string said = cluster.last().err();
  EXPECT_TRUE(said.ends_with("[1] 99999\n[1] 100000\n"));
  EXPECT_LT(said.size(), size_t{128} << 10) << "64 KiB, and a prefix for each line";
}

TEST(Logs, OfAWarmProcessBelongToTheTaskItWasOn) {
  Cluster cluster({.workers = 1, .slots = 1});
  ASSERT_EQ(cluster.longhaul_to_end(
                {"map", "--warm", "--array", "0-5", "--", "sh", "-c",
                 "echo begun >&2; while read -r x; do echo on $x >&2; sleep 0.1; echo $x; done"}),
            0);
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last", "--task", "0"}), 0);
  EXPECT_EQ(cluster.last().err(), "[0] begun\n[0] on 0\n");
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last", "--task", "4"}), 0);
  EXPECT_EQ(cluster.last().err(), "[4] on 4\n");
}

TEST(Terminal, GetsNoEscapesOfRanksUnlessAsked) {
  Cluster cluster;
  ASSERT_EQ(
      cluster.longhaul_to_end({"run", "--", "printf", "\\033[31mred\\033[0m\\n1%%\\r99%%\\n"}), 0);
  const std::string raw = "[0] \x1b[31mred\x1b[0m\n[0] 1%\r99%\n";
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "j1"}), 0);
  EXPECT_EQ(cluster.last().out(), raw) << "a pipe gets every byte";
  EXPECT_EQ(on_a_terminal(cluster, {"logs", "j1"}), "[0] red\r\n[0] 99%\r\n");
  EXPECT_THAT(on_a_terminal(cluster, {"logs", "j1", "--raw"}), HasSubstr("\x1b[31mred"));
  ASSERT_EQ(cluster.longhaul_to_end({"map", "--array", "1-2", "--", "printf", "\\033[2J{}\\n"}), 0);
  EXPECT_EQ(on_a_terminal(cluster, {"results", "last"}), "1\r\n2\r\n");
}

// --- Results
// ---------------------------------------------------------------------------------------

TEST(Results, RowsSayAllAboutEachTask) {
  Cluster cluster({.workers = 1, .slots = 2});
  ASSERT_EQ(
      cluster.longhaul_to_end({"map", "--array", "500-504", "--max-attempts", "2", "--", "sh", "-c",
                               "[ {} != 502 ] || { echo unlucky >&2; exit 4; }; echo r{}"}),
      1);
  EXPECT_THAT(cluster.last().err(),
              AllOf(HasSubstr("task 502: exited with code 4: unlucky"),
                    HasSubstr("  culprit     task 502\n"), Not(HasSubstr("the cluster"))));
  const std::vector<nlohmann::json> rows = rows_of(cluster, 1, {"results", "last", "--jsonl"});
  ASSERT_EQ(rows.size(), 5u);
  for (size_t i = 0; i < rows.size(); ++i) {
    const nlohmann::json& row = rows[i];
    EXPECT_EQ(row["task"], 500 + i);
    EXPECT_EQ(row["input"], std::to_string(500 + i));
    EXPECT_EQ(row["worker"], "w0");
    EXPECT_GE(row["duration_ms"], 0);
    EXPECT_EQ(row["state"], i == 2 ? "given_up" : "done");
  }
  EXPECT_EQ(rows[1]["result"], "r501\n");
  EXPECT_EQ(rows[1]["encoding"], "utf-8");
  EXPECT_TRUE(rows[1]["error"].is_null());
  EXPECT_EQ(rows[2]["attempt"], 2);
  EXPECT_EQ(rows[2]["error"], "exited with code 4: unlucky");
  EXPECT_TRUE(rows[2]["result"].is_null());

  EXPECT_EQ(cluster.longhaul_to_end({"results", "last"}), 1);
  EXPECT_EQ(cluster.last().out(), "r500\nr501\nr503\nr504\n");
  EXPECT_THAT(cluster.last().err(),
              AllOf(HasSubstr("task 502 has no result: given up: exited with code 4: unlucky"),
                    HasSubstr("1 task has no result")));
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last", "--out", cluster.file("out")}), 1);
  EXPECT_EQ(read_text(cluster.file("out/503")), "r503\n");
  EXPECT_FALSE(std::filesystem::exists(cluster.file("out/502")));
}

TEST(Results, IndicesAreTheUsersEverywhere) {
  Cluster cluster;
  ASSERT_EQ(
      cluster.longhaul_to_end({"map", "--array", "9-3:3,20", "--max-attempts", "1", "--", "true"}),
      64);
  ASSERT_EQ(
      cluster.longhaul_to_end({"map", "--array", "30,3-9:3", "--max-attempts", "1", "--", "sh",
                               "-c", "echo $LONGHAUL_TASK_ID; [ {} != 6 ] || kill -SEGV $$"}),
      1);
  EXPECT_THAT(cluster.last().err(), HasSubstr("task 6: ended by SIGSEGV"));
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last"}), 1);
  EXPECT_EQ(cluster.last().out(), "30\n3\n9\n");
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last", "--from", "6"}), 1);
  EXPECT_EQ(cluster.last().out(), "9\n");
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last", "--from", "4"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("no task is called 4: they are 30,3-9:3"));
  const nlohmann::json status = json_of(cluster, {"status", "last", "-o", "json"});
  EXPECT_EQ(status["array"]["first_given_up"][0]["task"], 6);
  ASSERT_EQ(cluster.longhaul_to_end({"status", "last"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("given up  task 6: ended by SIGSEGV"));
  ASSERT_EQ(cluster.longhaul_to_end({"explain", "last"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("task 6: ended by SIGSEGV"));
  ASSERT_EQ(cluster.longhaul_to_end({"events", "last"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("task 6: ended by SIGSEGV"));
}

TEST(Results, BytesThatAreNoTextComeBackWhole) {
  Cluster cluster;
  std::ofstream(cluster.file("lines")) << "caf\xe9\nplain\n";
  ASSERT_EQ(cluster.longhaul_to_end({"map", "--each-line", cluster.file("lines"), "--", "sh", "-c",
                                     "[ $LONGHAUL_TASK_ID = 1 ] || printf '\\377\\000\\376'"}),
            0);
  const std::vector<nlohmann::json> rows = rows_of(cluster, 0, {"results", "last", "--jsonl"});
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["encoding"], "base64");
  EXPECT_EQ(rows[0]["result"], "/wD+");
  EXPECT_EQ(rows[0]["input_encoding"], "base64");
  EXPECT_EQ(rows[0]["input"], "Y2Fm6Q==");
  EXPECT_EQ(rows[1]["encoding"], "utf-8");
  EXPECT_EQ(rows[1]["result"], "");
  EXPECT_EQ(rows[1]["input"], "plain");
}

TEST(Results, InputsOfJsonKeepTheirDigits) {
  Cluster cluster;
  const std::string id = "123456789012345678901234567890";
  std::ofstream(cluster.file("json")) << "[" << id << ", 1.10, {\"z\": 1.0, \"a\": 2}]";
  ASSERT_EQ(cluster.longhaul_to_end(
                {"map", "--from-json", cluster.file("json"), "--", "printenv", "LONGHAUL_INPUT"}),
            0);
  ASSERT_EQ(cluster.longhaul_to_end({"results", "last"}), 0);
  EXPECT_EQ(cluster.last().out(), id + "\n1.10\n{\"z\":1.0,\"a\":2}\n");
}

TEST(Results, OfAStoppedJobNameWhatWasCancelled) {
  Cluster cluster({.workers = 1, .slots = 1});
  ASSERT_EQ(cluster.longhaul_to_end({"map", "-d", "--array", "10-49", "--", "sh", "-c",
                                     "[ {} = 10 ] || { touch up.0; sleep 1000; }; echo {}"}),
            0);
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(cluster.file("up.0")); }));
  ASSERT_EQ(cluster.longhaul_to_end({"stop", "last", "--force"}), 0);
  cluster.longhaul_to_end({"wait", "last"});
  const std::vector<nlohmann::json> rows = rows_of(cluster, 1, {"results", "last", "--jsonl"});
  ASSERT_EQ(rows.size(), 40u);
  EXPECT_EQ(rows[0]["state"], "done");
  for (size_t i = 1; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i]["task"], 10 + i);
    EXPECT_EQ(rows[i]["state"], "cancelled");
    EXPECT_TRUE(rows[i]["result"].is_null());
  }
}

TEST(RetryFailed, RunsWhatFailedOnceMoreUnderTheSameNames) {
  Cluster cluster;
  const std::vector<std::string> program = {
      "sh", "-c", "[ -e good ] || [ $(({} % 3)) != 0 ] || exit 1; echo {}"};
  std::vector<std::string> map = {"map", "--array", "10-19", "--max-attempts", "1", "--"};
  map.insert(map.end(), program.begin(), program.end());
  ASSERT_EQ(cluster.longhaul_to_end(map), 1);
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--retry-failed", "j1", "--array", "1"}), 64);
  std::ofstream(cluster.file("good")) << "\n";
  ASSERT_EQ(cluster.longhaul_to_end({"map", "--retry-failed", "j1"}), 0) << cluster.last().err();
  ASSERT_EQ(cluster.longhaul_to_end({"results", "last"}), 0);
  EXPECT_EQ(cluster.last().out(), "12\n15\n18\n");
  EXPECT_EQ(json_of(cluster, {"status", "last", "-o", "json"})["array"]["indices"], "12,15,18");
  ASSERT_EQ(cluster.longhaul_to_end({"map", "--retry-failed", "last"}), 0);
  EXPECT_THAT(cluster.last().err(), HasSubstr("every task of job last has a result"));
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--retry-failed", "nobody"}), 64);
}

TEST(RetryFailed, KeepsInputsAndTakesWhatIsSaidAnew) {
  Cluster cluster;
  std::ofstream(cluster.file("lines")) << "one\ntwo two\nthree\n";
  ASSERT_EQ(cluster.longhaul_to_end({"map", "--each-line", cluster.file("lines"), "--max-attempts",
                                     "1", "--env", "A=1", "--", "sh", "-c", "exit 1"}),
            1);
  ASSERT_EQ(cluster.longhaul_to_end({"map", "--retry-failed", "last", "--env", "B=2", "--name",
                                     "again", "--", "sh", "-c", "echo \"$LONGHAUL_INPUT $A$B\""}),
            0)
      << cluster.last().err();
  ASSERT_EQ(cluster.longhaul_to_end({"results", "again"}), 0);
  EXPECT_EQ(cluster.last().out(), "one 12\ntwo two 12\nthree 12\n");
}

// --- Warm processes
// --------------------------------------------------------------------------------

TEST(Warm, OneProcessASlotTakesManyInputs) {
  Cluster cluster({.workers = 1, .slots = 2});
  ASSERT_EQ(cluster.longhaul_to_end({"map", "--warm", "--array", "0-99", "--batch", "5", "--", "sh",
                                     "-c", "while read -r x; do echo \"r$x $$\"; done"}),
            0)
      << cluster.last().err();
  ASSERT_EQ(cluster.longhaul_to_end({"results", "last"}), 0);
  std::istringstream answers(cluster.last().out());
  std::set<std::string> pids;
  std::string answer;
  std::string pid;
  for (int task = 0; task < 100; ++task) {
    answers >> answer >> pid;
    EXPECT_EQ(answer, str_cat("r", task));
    pids.insert(pid);
  }
  EXPECT_LE(pids.size(), 4U) << "a slot's next batch finds its process";
  const std::vector<nlohmann::json> rows = rows_of(cluster, 0, {"results", "last", "--jsonl"});
  EXPECT_GE(rows.at(7)["duration_ms"], 0);
}

TEST(Warm, ACrashFailsOnlyTheTaskItWasOn) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_EQ(cluster.longhaul_to_end(
                {"map", "--warm", "--array", "0-19", "--batch", "20", "--max-attempts", "1", "--",
                 "sh", "-c",
                 "while read -r x; do case $x in 7) echo unlucky >&2; exit 3;; 9) exit 0;; esac; "
                 "echo $x; done"}),
            1);
  const std::vector<nlohmann::json> rows = rows_of(cluster, 1, {"results", "last", "--jsonl"});
  ASSERT_EQ(rows.size(), 20U);
  for (int task = 0; task < 20; ++task) {
    const bool failed = task == 7 || task == 9;
    EXPECT_EQ(rows[static_cast<size_t>(task)]["state"], failed ? "given_up" : "done") << task;
    if (!failed) {
      EXPECT_EQ(rows[static_cast<size_t>(task)]["result"], str_cat(task, "\n"));
    }
  }
  EXPECT_EQ(rows[7]["error"], "exited with code 3: unlucky");
  EXPECT_EQ(rows[9]["error"], "its process ended without an answer to it");
}

TEST(Warm, LinesThatWouldShiftTheAnswersEndTheProcess) {
  Cluster cluster({.workers = 1, .slots = 1});
  const std::pair<const char*, const char*> cases[] = {
      {"echo banner; while [ ! -e never ]; do sleep 0.02; done; while read x; do echo $x; done",
       "it printed a line before it had read its input"},
      {"while read x; do printf '%s\n%s\n' $x $x; done",
       "it printed more than one line for one input"},
      {"read x; head -c 2000000 /dev/zero; echo", "its result has more than the 1.05 MB"},
  };
  for (const auto& [script, said] : cases) {
    EXPECT_EQ(cluster.longhaul_to_end({"map", "--warm", "--array", "5", "--max-attempts", "1", "--",
                                       "sh", "-c", script}),
              1);
    EXPECT_THAT(cluster.last().err(), HasSubstr(str_cat("task 5: ", said)));
  }
}

TEST(Warm, WhatStdinCannotCarryIsSaid) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--warm", "--array", "0", "--", "echo", "{}"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("'{}' has no meaning in its arguments"));
  std::ofstream(cluster.file("json")) << R"(["two\nlines", "one"])";
  EXPECT_EQ(cluster.longhaul_to_end({"map", "--warm", "--from-json", cluster.file("json"),
                                     "--max-attempts", "1", "--", "cat"}),
            1);
  EXPECT_THAT(cluster.last().err(), HasSubstr("task 0: its input is more than one line"));
  EXPECT_EQ(cluster.longhaul_to_end({"results", "last"}), 1);
  EXPECT_EQ(cluster.last().out(), "one\n");
}

TEST(Warm, AStoppedJobLeavesNoProcess) {
  Cluster cluster({.workers = 1, .slots = 1});
  ASSERT_EQ(cluster.longhaul_to_end({"map", "-d", "--warm", "--array", "0-9", "--", "sh", "-c",
                                     "echo $$ > up.0; read x; sleep 1000"}),
            0);
  const pid_t process = cluster.wait_for_touch("up", 0);
  ASSERT_EQ(cluster.longhaul_to_end({"stop", "last"}), 0);
  EXPECT_EQ(cluster.longhaul_to_end({"wait", "last"}), 143);
  EXPECT_TRUE(eventually([&] { return !is_running(process); }));
}

// --- Words that people bring along
// -----------------------------------------------------------------

TEST(Hints, WordsOfOtherProgramsAreUnderstood) {
  Cluster cluster({.daemons = false});
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"top"}, "did you mean 'longhaul ps --watch'?"},
      {{"list"}, "did you mean 'longhaul ps'?"},
      {{"kill", "j1"}, "did you mean 'longhaul stop'?"},
      {{"run", "--node-rank", "0", "--", "true"}, "the master gives the workers their numbers"},
      {{"run", "--node_rank=0", "train"}, "the master gives the workers their numbers"},
      {{"run", "--master-port", "29500", "train"}, "rank 0's worker picks a free port"},
      {{"run", "ddp.py"}, "did you mean `python3 ddp.py`"},
      {{"run", "--nproc-per-node", "some", "--", "true"}, "neither a number from 1 to 65536 nor"},
      {{"run", "--rank", "4"}, "did you mean '--ranks'?"},
  };
  for (const auto& [arguments, said] : cases) {
    EXPECT_EQ(cluster.longhaul_to_end(arguments), 64) << arguments[0];
    EXPECT_THAT(cluster.last().err(), HasSubstr(said)) << arguments[0];
  }
}

TEST(Torchrun, CountsAndModulesMeanTheSame) {
  Cluster cluster({.workers = 2, .slots = 3});
  ASSERT_EQ(cluster.longhaul_to_end({"run", "--nnodes", "2", "--nproc-per-node", "auto", "--", "sh",
                                     "-c", "echo $WORLD_SIZE $LOCAL_WORLD_SIZE"}),
            0)
      << cluster.last().err();
  EXPECT_THAT(cluster.last().out(), HasSubstr("[5] 6 3\n"));
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--nproc-per-node", "gpu", "--", "true"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("too few have GPUs"));
  std::filesystem::create_directory(cluster.file("pkg"));
  std::ofstream(cluster.file("pkg/train.py")) << "import sys; print(__name__, sys.argv[1:])\n";
  ASSERT_EQ(cluster.longhaul_to_end(
                {"run", "--standalone", "--nproc-per-node", "1", "-m", "pkg.train", "--lr", "3"}),
            0)
      << cluster.last().err();
  EXPECT_EQ(cluster.last().out(), "[0] __main__ ['--lr', '3']\n");
}

TEST(Export, SendsTheSubmittersEnvironmentOnlyWhenAsked) {
  Cluster cluster({.workers = 1, .slots = 1});
  const std::string longhaul = program("longhaul");
  const auto seen = [&](const std::string& flag) {
    ChildProcess& run = cluster.start_in_folder(
        {"env", "MINE=here", longhaul, "run", flag, "--", "sh", "-c", "echo ${MINE-unset} $0"});
    EXPECT_EQ(run.wait(), 0) << run.err();
    return run.out();
  };
  EXPECT_EQ(seen("--export=none"), "[0] unset sh\n");
  EXPECT_EQ(seen("--export=all"), "[0] here sh\n");
  EXPECT_EQ(seen("--export=MINE"), "[0] here sh\n");
}

}  // namespace
}  // namespace longhaul::testing

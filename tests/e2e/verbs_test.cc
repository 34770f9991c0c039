// explain, drain, events, logs of an attempt, completion: as a user types them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/e2e/json_of.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// --- explain and drain ---------------------------------------------------------------------------

TEST(Explain, AWaitingJobAndWhatItWaitsFor) {
  Cluster cluster({.workers = 1, .slots = 2});
  ASSERT_EQ(cluster.longhaul_to_end({"run", "-d", "--name", "night", "--ranks", "2", "--",
                                     rank_program(), "touch=up", "nap"}),
            0);
  cluster.wait_for_touch("up", 1);
  ASSERT_EQ(cluster.longhaul_to_end({"run", "-d", "--ranks", "2", "--", "true"}), 0);
  ASSERT_EQ(cluster.longhaul_to_end({"explain", "last"}), 0);
  EXPECT_THAT(cluster.last().out(),
              AllOf(StartsWith("job j2 pending\n  why     needs 2 slots"),
                    HasSubstr("  help    slots are free again when these end: j1 (2 slots)\n"),
                    HasSubstr("  before  j1 (night) running, 2 slots\n"),
                    HasSubstr("w0      2      0     full\n")));
  const nlohmann::json made = json_of(cluster, {"explain", "j2", "-o", "json"});
  EXPECT_EQ(made["state"], "pending");
  EXPECT_EQ(made["ahead"][0]["job"], "j1");
  EXPECT_EQ(made["nodes"][0]["free"], 0);
  ASSERT_EQ(cluster.longhaul_to_end({"explain", "night"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("it runs: 2 ranks"));
}

TEST(Drain, TakesNoNewWorkAcrossARestartOfTheMaster) {
  Cluster cluster({.workers = 2, .slots = 1});
  ASSERT_EQ(cluster.longhaul_to_end({"run", "-d", "--", rank_program(), "touch=up", "await=go"}),
            0);
  cluster.wait_for_touch("up", 0);
  const nlohmann::json before = json_of(cluster, {"nodes", "-o", "json"});
  const size_t busy = before["nodes"][0]["used_slots"] == 1 ? 0 : 1;
  const std::string node = str_cat("w", busy);

  ASSERT_EQ(cluster.longhaul_to_end({"drain", node}), 0);
  EXPECT_EQ(cluster.last().out(), node + " draining: 1 of 1 slots in use by j1\n");
  cluster.restart_master();
  cluster.wait_for_workers(2);
  EXPECT_EQ(json_of(cluster, {"nodes", "-o", "json"})["nodes"][busy]["drain"], "draining");

  ChildProcess& empty = cluster.longhaul({"drain", node, "--wait"});
  ASSERT_TRUE(eventually([&] { return !empty.out().empty(); }));
  EXPECT_FALSE(empty.wait(std::chrono::milliseconds(400))) << "it still runs a rank";
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(empty.wait(), 0) << empty.err();
  EXPECT_THAT(empty.out(), HasSubstr(node + " drained\n"));
  ASSERT_EQ(cluster.longhaul_to_end({"nodes"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr(" drained "));

  ASSERT_EQ(cluster.longhaul_to_end({"run", "-d", "--ranks", "2", "--", "true"}), 0);
  ASSERT_EQ(cluster.longhaul_to_end({"explain", "last"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("`longhaul drain --undo " + node + "`"));
  ASSERT_EQ(cluster.longhaul_to_end({"drain", "--undo", node}), 0);
  EXPECT_EQ(cluster.longhaul_to_end({"wait", "last"}), 0);
}

TEST(Drain, AWorkerThatIsNotThereIsWrongUsage) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_EQ(cluster.longhaul_to_end({"drain", "w7"}), 64);
  EXPECT_EQ(cluster.last().err(), "longhaul: no worker 'w7': did you mean 'w0'?\n");
  EXPECT_EQ(cluster.longhaul_to_end({"events", "--node", "w7"}), 64);
}

// --- events --------------------------------------------------------------------------------------

TEST(Events, AreFollowedAcrossARestartOfTheMasterWithoutAGap) {
  Cluster cluster({.workers = 1, .slots = 2, .lease = "10"});
  ChildProcess& follow = cluster.longhaul({"events", "-f", "-o", "json"});
  ASSERT_EQ(cluster.longhaul_to_end({"run", "--", "sh", "-c", "exit 3"}), 3);
  ASSERT_TRUE(eventually([&] { return follow.out().find("\"job ended\"") != std::string::npos; }));
  cluster.restart_master();
  cluster.wait_for_workers(1);
  ASSERT_EQ(cluster.longhaul_to_end({"run", "--", "true"}), 0);
  ASSERT_TRUE(eventually([&] { return follow.out().find("succeeded") != std::string::npos; }))
      << follow.out() << follow.err();
  follow.kill(SIGINT);
  EXPECT_EQ(follow.wait(), 130);
  uint64_t number = 0;
  std::vector<std::string> what;
  for (const std::string& line : lines_of(follow.out())) {
    const nlohmann::json event = nlohmann::json::parse(line);
    EXPECT_EQ(event["schema"], 1);
    EXPECT_EQ(event["number"], ++number);
    const auto job = event["job"].get<std::string>();
    if (!job.empty()) what.push_back(str_cat(job, " ", event["event"].get<std::string>()));
    if (event["event"] == "job ended" && event["job"] == "j1") {
      EXPECT_EQ(event["rank"], 0);
      EXPECT_EQ(event["worker"], "w0");
    }
  }
  EXPECT_THAT(what, ElementsAre("j1 job submitted", "j1 job placed", "j1 job started",
                                "j1 job stopping", "j1 job ended", "j2 job submitted",
                                "j2 job placed", "j2 job started", "j2 job ended"));
}

TEST(Events, OfOneJobOfOneWorkerAndSinceATime) {
  Cluster cluster({.workers = 1, .slots = 1});
  ASSERT_EQ(cluster.longhaul_to_end({"run", "--name", "night", "--", "true"}), 0);
  ASSERT_EQ(cluster.longhaul_to_end({"events", "night", "-f"}), 0) << "it has ended";
  EXPECT_THAT(cluster.last().out(), AllOf(HasSubstr("job submitted       j1: 1 ranks of true"),
                                          HasSubstr("job ended           j1: succeeded"),
                                          Not(HasSubstr("worker registered"))));
  ASSERT_EQ(cluster.longhaul_to_end({"events", "--node", "w0"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("worker registered   w0: "));
  ASSERT_EQ(cluster.longhaul_to_end({"events", "--since", "1h"}), 0);
  EXPECT_THAT(cluster.last().out(), HasSubstr("master started"));
  ASSERT_EQ(cluster.longhaul_to_end({"events", "--since", "2099-01-01"}), 0);
  EXPECT_EQ(cluster.last().out(), "");
  EXPECT_EQ(cluster.longhaul_to_end({"events", "--since", "yesterday-ish"}), 64);
  EXPECT_EQ(cluster.longhaul_to_end({"events", "j99"}), 64);
}

// --- logs of an attempt, stop with a grace -------------------------------------------------------

TEST(Logs, OfOneAttempt) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--max-restarts", "1", "--", "sh", "-c",
                                     "echo attempt $LONGHAUL_GENERATION; exit 4"}),
            4);
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last"}), 0);
  EXPECT_EQ(cluster.last().out(), "[0] attempt 1\n[0] attempt 2\n");
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last", "--attempt", "1", "-f"}), 0);
  EXPECT_EQ(cluster.last().out(), "[0] attempt 1\n");
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last", "--attempt", "2", "--since", "1h"}), 0);
  EXPECT_EQ(cluster.last().out(), "[0] attempt 2\n");
  ASSERT_EQ(cluster.longhaul_to_end({"logs", "last", "--since", "2099-01-01 10:00"}), 0);
  EXPECT_EQ(cluster.last().out(), "");
  EXPECT_EQ(cluster.longhaul_to_end({"logs", "last", "--attempt", "3"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("job j1 has had 2 attempts"));
}

TEST(Stop, TheGraceIsADuration) {
  Cluster cluster({.workers = 1, .slots = 1});
  ASSERT_EQ(cluster.longhaul_to_end(
                {"run", "-d", "--grace", "1h", "--", rank_program(), "deaf", "touch=up", "nap"}),
            0);
  cluster.wait_for_touch("up", 0);
  ASSERT_EQ(cluster.longhaul_to_end({"stop", "last", "--grace", "100ms"}), 0);
  EXPECT_EQ(cluster.longhaul_to_end({"wait", "last"}), 143);
  EXPECT_EQ(cluster.longhaul_to_end({"stop", "last", "--grace", "soon"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("'soon' is no duration"));
}

// --- completion ----------------------------------------------------------------------------------

// What a real bash proposes for this line.
std::vector<std::string> bash_proposes(Cluster& cluster, const std::string& line) {
  const std::string script =
      "source <(\"$0\" completion bash)\n"
      "COMP_LINE=\"$0 $1\"; COMP_POINT=${#COMP_LINE}\n"
      "_longhaul\n"
      "[ ${#COMPREPLY[@]} = 0 ] || printf '%s\\n' \"${COMPREPLY[@]}\"\n"
      "complete -p longhaul >&2";
  ChildProcess& bash = cluster.start_in_folder(
      {"bash", "--norc", "--noprofile", "-c", script, program("longhaul"), line});
  EXPECT_EQ(bash.wait(), 0) << bash.err();
  EXPECT_THAT(bash.err(), HasSubstr("complete -o default -F _longhaul longhaul"));
  return lines_of(bash.out());
}

TEST(Completion, BashProposesCommandsFlagsJobsAndNodes) {
  Cluster cluster({.workers = 1, .slots = 1});
  // A name is not to be expanded by the shell that shows it.
  for (const char* name : {"night", "$(touch pwned)"}) {
    ASSERT_EQ(cluster.longhaul_to_end({"run", "-d", "--name", name, "--", "true"}), 0);
  }
  EXPECT_THAT(bash_proposes(cluster, "st"), ElementsAre("status", "stop"));
  EXPECT_THAT(bash_proposes(cluster, "logs --at"), ElementsAre("--attempt"));
  EXPECT_THAT(bash_proposes(cluster, "logs "), ElementsAre("j1", "night", "j2", "last"));
  EXPECT_THAT(bash_proposes(cluster, "drain "), ElementsAre("w0"));
  EXPECT_THAT(bash_proposes(cluster, "events --node w"), ElementsAre("w0"));
  EXPECT_THAT(bash_proposes(cluster, "ps -o "), ElementsAre("text", "json"));
  EXPECT_THAT(bash_proposes(cluster, "logs --master 127.0.0.1:1 "), IsEmpty()) << "nobody there";
  EXPECT_THAT(bash_proposes(cluster, "run --ranks 2 ./tr"), IsEmpty()) << "files are bash's";
  EXPECT_FALSE(std::filesystem::exists(cluster.file("pwned")));
}

TEST(Completion, TheOtherShellsScripts) {
  Cluster cluster({.workers = 0});
  const bool has_zsh = cluster.start_in_folder({"sh", "-c", "command -v zsh"}).wait() == 0;
  const bool has_fish = cluster.start_in_folder({"sh", "-c", "command -v fish"}).wait() == 0;
  if (has_zsh) {
    // Outside of the line editor: what is handed to it is printed.
    ChildProcess& zsh = cluster.start_in_folder(
        {"zsh", "-f", "-c",
         "compdef() {}; compadd() { print -l -- $candidates }; _files() { print files }\n"
         "source <(\"$0\" completion zsh)\nwords=(\"$0\" st); CURRENT=2; _longhaul\n"
         "words=(\"$0\" run ./x ''); CURRENT=4; _longhaul",
         program("longhaul")});
    EXPECT_EQ(zsh.wait(), 0) << zsh.err();
    EXPECT_EQ(zsh.out(), "status\nstop\nfiles\n");
  }
  if (has_fish) {
    ChildProcess& fish = cluster.start_in_folder(
        {"fish", "--no-config", "-c",
         str_cat(program("longhaul"), " completion fish | source; set -x PATH ",
                 LONGHAUL_TEST_PROGRAMS, " $PATH; complete -C 'longhaul st'")});
    EXPECT_EQ(fish.wait(), 0) << fish.err();
    EXPECT_THAT(lines_of(fish.out()), AllOf(Contains("status"), Contains("stop")));
  }
  EXPECT_EQ(cluster.longhaul_to_end({"completion", "tcsh"}), 64);
  if (!has_zsh || !has_fish) {
    GTEST_SKIP() << (has_zsh ? "" : "zsh is not installed; ")
                 << (has_fish ? "" : "fish is not installed");
  }
}

}  // namespace
}  // namespace longhaul::testing

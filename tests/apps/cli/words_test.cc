// Times as typed, events and explanations as printed, words as completed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <ctime>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/cli/commands/command.h"
#include "apps/cli/commands/complete.h"
#include "apps/cli/commands/hints.h"
#include "apps/cli/text/job_text.h"
#include "apps/cli/text/json_text.h"
#include "apps/cli/text/time_text.h"

namespace longhaul::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(TimeText, Durations) {
  EXPECT_EQ(parse_duration("90"), milliseconds(90'000));
  EXPECT_EQ(parse_duration("1.5s"), milliseconds(1'500));
  EXPECT_EQ(parse_duration("250ms"), milliseconds(250));
  EXPECT_EQ(parse_duration("5m"), milliseconds(300'000));
  EXPECT_EQ(parse_duration("2h"), milliseconds(7'200'000));
  EXPECT_EQ(parse_duration("7d"), milliseconds(604'800'000));
  for (const char* wrong : {"", "s", "-1", "5 m", "5x", "1e300h", "nan", "inf", "5mm"}) {
    EXPECT_FALSE(parse_duration(wrong)) << wrong;
  }
}

TEST(TimeText, TimesAgoOrAtAnHour) {
  constexpr int64_t kNow = 1'763'733'000'000;  // 2025-11-21 13:50:00 UTC
  EXPECT_EQ(parse_since("10m", kNow), kNow - 600'000);
  EXPECT_EQ(parse_since("900000d", kNow), 1U) << "before time began";
  EXPECT_EQ(parse_since("@1763733000", kNow), kNow);
  EXPECT_EQ(parse_since("2025-11-21T13:50:00Z", kNow), kNow);
  EXPECT_EQ(parse_since("2025-11-21 13:49Z", kNow), kNow - 60'000);
  EXPECT_EQ(parse_since("13:50Z", kNow), kNow);
  ASSERT_EQ(::setenv("TZ", "EST5", 1), 0);
  ::tzset();
  EXPECT_EQ(parse_since("2025-11-21T08:50:00", kNow), kNow);
  EXPECT_EQ(parse_since("08:50", kNow), kNow);
  EXPECT_EQ(format_time(kNow), "2025-11-21 08:50:00");
  ::unsetenv("TZ");
  ::tzset();
  for (const char* wrong :
       {"", "@", "@x", "yesterday", "2025-13-01", "2025-11-21T", "25:00", "Z"}) {
    EXPECT_FALSE(parse_since(wrong, kNow)) << wrong;
  }
}

TEST(EventText, OneLineOrOneDocument) {
  ClusterEvent event{EventKind::kJobEnded, "j3", "gpu-b", 2, 5, "failed: rank 5 exited", 42, 0};
  EXPECT_THAT(render_event(event), HasSubstr("    42  19"));
  EXPECT_THAT(render_event(event), HasSubstr("  job ended           j3: failed: rank 5 exited\n"));
  const nlohmann::json json = nlohmann::json::parse(event_json(event));
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["number"], 42);
  EXPECT_EQ(json["event"], "job ended");
  EXPECT_EQ(json["rank"], 5);
  event.rank.reset();
  event.job.clear();
  EXPECT_TRUE(nlohmann::json::parse(event_json(event))["rank"].is_null());
  EXPECT_THAT(render_event(event), HasSubstr("gpu-b: failed"));
}

TEST(NodeText, DrainedWorkersAreShownAsSuch) {
  NodeInfo node;
  node.id = "gpu-a";
  node.slots = 2;
  node.used_slots = 1;
  EXPECT_THAT(nodes_json({node}), HasSubstr("\"drain\":\"no\""));
  node.drained = true;
  EXPECT_THAT(render_nodes({node}, 0), HasSubstr("  draining  "));
  EXPECT_THAT(nodes_json({node}), HasSubstr("\"drain\":\"draining\""));
  EXPECT_THAT(nodes_json({node}), HasSubstr("\"state\":\"ready\""));
  node.used_slots = 0;
  EXPECT_THAT(render_nodes({node}, 0), HasSubstr("  drained  "));
  node.state = WorkerState::kLost;
  EXPECT_THAT(render_nodes({node}, 0), HasSubstr("  lost, drained  "));
}

class CompleteTest : public ::testing::Test {
 protected:
  CompleteTest() {
    add_run(app_, &action_, std::nullopt);
    add_logs(app_, &action_, std::nullopt);
    add_drain(app_, &action_, std::nullopt);
    add_ps(app_, &action_, std::nullopt);
    add_completion(app_, &action_, std::nullopt);
    add_complete(app_, &action_, std::nullopt);
  }
  std::vector<std::string> propose(const std::vector<std::string>& words) {
    return complete(app_, words,
                    {[this](const std::string& master) {
                       asked_ = master;
                       return std::vector<std::string>{"j1", "last"};
                     },
                     [](const std::string&) { return std::vector<std::string>{"gpu-a"}; }});
  }

  CLI::App app_;
  Action action_;
  std::string asked_;
};

TEST_F(CompleteTest, FromTheTableOfCommandsAndFlags) {
  EXPECT_THAT(propose({}), ElementsAre("run", "logs", "drain", "ps", "completion"));
  EXPECT_THAT(propose({"p"}), ElementsAre("ps"));
  EXPECT_THAT(propose({"--h"}), ElementsAre("--help"));
  EXPECT_THAT(propose({"logs", "--f"}), ElementsAre("--follow"));
  EXPECT_THAT(propose({"run", "--max-r"}), ElementsAre("--max-restarts"));
  EXPECT_THAT(propose({"ps", "--output", "j"}), ElementsAre("json"));
  EXPECT_THAT(propose({"completion", ""}), ElementsAre("bash", "zsh", "fish"));
  EXPECT_THAT(propose({"nonsense", ""}), IsEmpty());
}

TEST_F(CompleteTest, NamesComeFromTheMasterThatTheWordsName) {
  EXPECT_THAT(propose({"logs", ""}), ElementsAre("j1", "last"));
  EXPECT_EQ(asked_, "");
  EXPECT_THAT(propose({"logs", "-f", "--master", "far:1", "l"}), ElementsAre("last"));
  EXPECT_EQ(asked_, "far:1");
  EXPECT_THAT(propose({"logs", "j1", ""}), IsEmpty()) << "one job is enough";
  EXPECT_THAT(propose({"logs", "--rank", ""}), IsEmpty()) << "a number";
  EXPECT_THAT(propose({"logs", "--rank", "2", "j"}), ElementsAre("j1"));
  EXPECT_THAT(propose({"drain", "--undo", ""}), ElementsAre("gpu-a"));
}

TEST_F(CompleteTest, TheProgramsOwnWordsAreLeftToTheShell) {
  EXPECT_THAT(propose({"run", "--ranks", "2", "./train", "--ma"}), IsEmpty());
  EXPECT_THAT(propose({"run", "--", "--ma"}), IsEmpty());
  EXPECT_THAT(propose({"run", ""}), IsEmpty());
}

void add_all(CLI::App& app, Action* action){
#define LONGHAUL_ADD(name) add_##name(app, action, std::nullopt);
    LONGHAUL_COMMANDS(LONGHAUL_ADD)
#undef LONGHAUL_ADD
}

TEST(Help, EveryFlagThatTakesAValueSaysItsDefault) {
  CLI::App app;
  Action action;
  add_all(app, &action);
  int seen = 0;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    for (const CLI::Option* option : command->get_options()) {
      const bool takes_a_value = option->get_items_expected_max() > 0 && !option->get_positional();
      if (!takes_a_value || option->get_required()) continue;
      ++seen;
      EXPECT_TRUE(!option->get_default_str().empty() ||
                  option->get_description().find("default") != std::string::npos)
          << command->get_name() << " " << option->get_name();
    }
  }
  EXPECT_GT(seen, 50);
}

TEST(Hints, WhatIsMeantIsNoWordOfOurs) {
  CLI::App app;
  Action action;
  add_all(app, &action);
  std::set<std::string> ours;
  for (const CLI::App* command : app.get_subcommands({})) ours.insert(command->get_name());
  for (const auto& hint : hints()) {
    const std::string& word = hint.first;
    EXPECT_FALSE(ours.contains(word)) << word;
    EXPECT_FALSE(hint.second.empty());
  }
}

}  // namespace
}  // namespace longhaul::cli

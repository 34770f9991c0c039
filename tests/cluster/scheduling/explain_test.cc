// What explain() says, state by state; and that it always says something.
#include "cluster/scheduling/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cluster/state_driver.h"

namespace longhaul {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

ExplainFacts waiting(int ranks) {
  ExplainFacts facts;
  facts.job.id = "j9";
  facts.job.spec.ranks = ranks;
  facts.job.reason = "needs slots";
  return facts;
}

TEST(Explain, AWaitingJobHearsWhatEachNodeCouldTake) {
  ExplainFacts facts = waiting(6);
  facts.job.spec.max_ranks_per_worker = 2;
  facts.nodes = {{"full", true, false, {4, 0, 0}, {0, 0, 0}},
                 {"roomy", true, false, {4, 0, 0}, {3, 0, 0}},
                 {"silent", false, false, {4, 0, 0}, {4, 0, 0}},
                 {"spared", true, true, {4, 0, 0}, {4, 0, 0}}};
  const Explanation made = explain(facts);
  EXPECT_EQ(made.reason, "needs slots");
  ASSERT_THAT(made.nodes, SizeIs(4));
  EXPECT_EQ(made.nodes[0].verdict, "full");
  EXPECT_EQ(made.nodes[1].verdict, "room for 2 ranks");
  EXPECT_EQ(made.nodes[2].verdict, "unreachable");
  EXPECT_THAT(made.nodes[3].verdict, HasSubstr("drained"));
  EXPECT_THAT(made.help, Contains(HasSubstr("cannot be reached: silent")));
  EXPECT_THAT(made.help, Contains(HasSubstr("`longhaul drain --undo spared`")));
}

TEST(Explain, WhoHoldsSlotsAndWhoWaitsBefore) {
  ExplainFacts facts = waiting(2);
  facts.nodes = {{"a", true, false, {2, 0, 0}, {0, 0, 0}}};
  facts.ahead = {{"j1", "night", JobState::kRunning, 2}, {"j2", "", JobState::kPending, 0}};
  const Explanation made = explain(facts);
  EXPECT_THAT(made.ahead, SizeIs(2));
  EXPECT_THAT(made.help, Contains("slots are free again when these end: j1 (2 slots)"));
  EXPECT_THAT(made.help, Not(Contains(HasSubstr("start more workers")))) << "it would fit";
}

TEST(Explain, WhatIsLargerThanTheClusterHearsHowMuchWouldFit) {
  ExplainFacts facts = waiting(9);
  facts.nodes = {{"a", true, false, {4, 0, 0}, {4, 0, 0}},
                 {"b", true, false, {2, 0, 0}, {2, 0, 0}}};
  EXPECT_THAT(explain(facts).help, Contains(HasSubstr("could take 6 ranks")));
  facts.job.spec.ranks = 12;
  facts.job.spec.min_nodes = 2;
  facts.job.spec.max_ranks_per_worker = 4;
  const Explanation elastic = explain(facts);
  EXPECT_THAT(elastic.help, Contains(HasSubstr("could take 4 ranks on nodes large enough")));
  EXPECT_EQ(elastic.nodes[1].verdict, "too little: a node needs 4 free");
  facts.nodes.clear();
  EXPECT_THAT(explain(facts).help, Contains(HasSubstr("start longhaul-worker")));
}

TEST(Explain, AJobThatBacksOffSaysWhenItIsTriedAgain) {
  ExplainFacts facts = waiting(1);
  facts.job.generation = 3;
  facts.job.reason = "starts again: rank 0 exited with code 1";
  facts.starts_again_in = milliseconds(1500);
  const Explanation made = explain(facts);
  EXPECT_EQ(made.reason, "attempt 3 is placed in 1.5s; starts again: rank 0 exited with code 1");
  EXPECT_THAT(made.help, Contains(HasSubstr("longhaul logs j9 --attempt 2")));
}

TEST(Explain, EveryStateHasAReason) {
  for (const JobState state :
       {JobState::kPending, JobState::kStarting, JobState::kRunning, JobState::kStopping,
        JobState::kSucceeded, JobState::kFailed, JobState::kStopped}) {
    for (const bool array : {false, true}) {
      ExplainFacts facts = waiting(1);
      facts.job.state = state;
      facts.job.reason.clear();
      if (array) {
        facts.job.spec.array.emplace().tasks = 10;
        facts.job.array.emplace();
      }
      EXPECT_THAT(explain(facts).reason, Not(IsEmpty())) << to_string(state);
    }
  }
}

// The same, asked of a cluster.
TEST(Explain, AsAJobComesThroughItsLife) {
  testing::StateDriver on;
  const SessionId a = on.connect("gpu-a", 2);
  const JobId first = *on.submit(2);
  EXPECT_THAT(on.state.explain(first, on.now()).reason, HasSubstr("no answer yet: gpu-a"));
  const JobId second = *on.submit(2);
  Explanation made = on.state.explain(second, on.now());
  EXPECT_EQ(made.state, JobState::kPending);
  EXPECT_THAT(made.reason, HasSubstr("needs 2 slots"));
  ASSERT_THAT(made.ahead, SizeIs(1));
  EXPECT_EQ(made.ahead[0].id, first);
  EXPECT_EQ(made.ahead[0].slots_held, 2);
  EXPECT_EQ(made.nodes.at(0).verdict, "full");

  on.prepared(a, first);
  on.says(a, first, 0, RankSpawned{1});
  on.says(a, first, 0, RankJoined{});
  EXPECT_EQ(on.state.explain(first, on.now()).reason, "it runs: 2 ranks, 1 joined, 0 ended");
  on.stop(first);
  EXPECT_THAT(on.state.explain(first, on.now()).reason,
              AllOf(HasSubstr("stopped by a user"), HasSubstr("rank 0 on gpu-a, rank 1 on gpu-a")));
  on.exits(a, first, 0, 0, 15, true);
  on.exits(a, first, 1, 0, 15, true);
  EXPECT_THAT(on.state.explain(first, on.now()).reason, HasSubstr("it was stopped"));
  EXPECT_EQ(on.state.explain(second, on.now()).state, JobState::kStarting);
}

}  // namespace
}  // namespace longhaul

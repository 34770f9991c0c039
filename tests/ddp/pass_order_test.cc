#include "ddp/pass_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul {
namespace {

using ::testing::HasSubstr;

// Two parameters, "a" and "b", and a model of one output unless said otherwise.
class Story {
 public:
  explicit Story(bool static_graph = false) : order_({"a", "b"}, static_graph, 0) {}

  Story& forward(size_t outputs = 1, const std::vector<size_t>& unused = {}) {
    note(order_.forward_begins());
    if (problem.empty()) order_.forward_ends(++step_, outputs, true, unused);
    return *this;
  }
  // Comes to these outputs, then gets gradients of these parameters, then ends.
  Story& backward(uint64_t step, const std::vector<size_t>& outputs,
                  const std::vector<size_t>& parameters, bool finished, bool ends = true) {
    const int task = next_task_++;
    for (const size_t output : outputs) order_.output_reached(task, step, output);
    for (const size_t parameter : parameters) {
      bool first = false;
      note(order_.gradient(task, parameter, &first));
      if (!problem.empty()) return *this;
    }
    if (ends) note(order_.backward_ends(task, finished));
    return *this;
  }

  std::string problem;  // the first

 private:
  void note(const PassOrder::Problem& seen) {
    if (problem.empty() && seen) problem = *seen;
  }
  PassOrder order_;
  uint64_t step_ = 0;
  int next_task_ = 7;
};

TEST(PassOrder, OneBackwardPerForwardIsFine) {
  Story story;
  for (uint64_t step = 1; step < 4; ++step) story.forward().backward(step, {0}, {0, 1}, true);
  EXPECT_EQ(story.problem, "");
}

TEST(PassOrder, SkippedBackwardsAndOneForSeveralForwardsAreFine) {
  EXPECT_EQ(Story().forward().forward().backward(2, {0}, {0, 1}, true).problem, "");
  Story many;
  for (int i = 0; i < 200; ++i) many.forward();
  EXPECT_EQ(many.backward(200, {0}, {0, 1}, true).problem, "");
}

TEST(PassOrder, ASecondBackwardThroughReducedOutputsIsNamed) {
  EXPECT_THAT(
      Story().forward().backward(1, {0}, {0, 1}, true).backward(1, {0}, {0, 1}, true).problem,
      HasSubstr("a second backward pass through the outputs of step 1"));
  EXPECT_THAT(Story()
                  .forward()
                  .forward()
                  .backward(2, {0}, {0, 1}, true)
                  .backward(1, {0}, {0}, true)
                  .problem,
              HasSubstr("outputs of step 1"));
}

// As autograd::grad() with respect to an input.
TEST(PassOrder, GoingThroughOutputsWithoutGradientsIsNobodysBusiness) {
  Story story;
  story.forward().backward(1, {0}, {}, false).backward(1, {0}, {0, 1}, true);
  EXPECT_EQ(story.backward(1, {0}, {}, true).problem, "");
}

TEST(PassOrder, WhatGotNoGradientIsNamedInThatStep) {
  EXPECT_THAT(Story().forward().backward(1, {0}, {0}, false).problem,
              HasSubstr("parameter 'b' got no gradient in step 1"));
}

TEST(PassOrder, PartsOfOneReductionMayComeOneByOne) {
  Story story;
  story.forward(2).backward(1, {0}, {0}, false);
  EXPECT_EQ(story.problem, "") << "the other output may bring the rest";
  EXPECT_EQ(story.backward(1, {1}, {1}, true).problem, "");
  EXPECT_THAT(Story().forward(2).backward(1, {0}, {0}, false).forward().problem,
              HasSubstr("'b' got no gradient in step 1"));
  EXPECT_THAT(Story().forward(2).backward(1, {0}, {0}, false).backward(1, {1}, {0}, false).problem,
              HasSubstr("parameter 'a' got a second gradient in step 1"));
}

TEST(PassOrder, AnExceptionInTheMiddleOfAReductionIsNamed) {
  EXPECT_THAT(Story().forward().backward(1, {0}, {0}, false, /*ends=*/false).forward().problem,
              HasSubstr("the backward pass of step 1 was left by an exception"));
  EXPECT_EQ(Story().forward().backward(1, {0}, {}, false, false).forward().problem, "")
      << "it had touched nothing";
}

TEST(PassOrder, UnusedParametersMayNotGetGradients) {
  EXPECT_EQ(Story().forward(1, {1}).backward(1, {0}, {0}, true).problem, "");
  EXPECT_THAT(Story().forward(1, {1}).backward(1, {0}, {0, 1}, false).problem,
              HasSubstr("outputs of the last forward pass do not depend on it"));
}

TEST(PassOrder, StaticGraphsRepeatTheirFirstStep) {
  Story twice(true);
  for (uint64_t step = 1; step < 4; ++step) twice.forward().backward(step, {0}, {0, 1, 0}, true);
  EXPECT_EQ(twice.problem, "");
  EXPECT_THAT(twice.forward().backward(4, {0}, {0, 1}, false).problem,
              HasSubstr("parameter 'a' got fewer gradients than in the first step, in step 4"));
  Story once(true);
  once.forward().backward(1, {0}, {0, 1}, true);
  EXPECT_THAT(once.forward().backward(2, {0}, {0, 0}, false).problem,
              HasSubstr("'a' got 2 gradients in step 2 and 1 in the first"));
}

TEST(PassOrder, StaticGraphsBeginWithAPassThatReduces) {
  EXPECT_THAT(Story(true).backward(0, {}, {0}, true).problem,
              HasSubstr("with static_graph the first one must reduce"));
  Story later(true);
  later.forward().backward(1, {0}, {0, 1}, true).backward(0, {}, {0, 1}, true);
  EXPECT_EQ(later.forward().backward(2, {0}, {0, 1}, true).problem, "");
}

}  // namespace
}  // namespace longhaul

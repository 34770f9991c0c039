#include "collectives/step_notes.h"

#include <gtest/gtest.h>

#include <memory>

namespace longhaul {
namespace {

using Phase = StepNote::Phase;
using Notes = std::vector<StepNote>;

StepNote noted(Phase phase, uint32_t wrapper = 0, uint64_t step = 0, uint64_t layout = 0,
               uint64_t changes = 0, std::string why = "") {
  return {phase, wrapper, step, layout, changes, std::move(why)};
}

std::string difference(const Notes& notes) {
  return explain_difference(notes).value_or("none");
}

TEST(StepNote, ComesBackFromItsText) {
  const StepNote note =
      noted(Phase::kRehook, 3, uint64_t{1} << 40, 5, 6, "parameter 'a' was replaced");
  const auto back = decode_note(encode(note));
  ASSERT_TRUE(back);
  EXPECT_EQ(encode(*back), encode(note));
  EXPECT_EQ(back->why, note.why);
  EXPECT_FALSE(decode_note(encode(note).substr(0, 20)));
  EXPECT_FALSE(decode_note(std::string(40, '\0')));
}

TEST(StepNote, DifferencesAreToldBySteps) {
  const auto at = [](uint64_t step) { return noted(Phase::kBackward, 0, step); };
  EXPECT_EQ(difference({at(12), at(12), at(12)}), "none");
  EXPECT_EQ(difference({at(13), at(12), at(13), at(13)})
                .find("ranks are at different steps: rank 1 at 12, ranks 0, 2 and 3 at 13"),
            0U);
  EXPECT_EQ(odd_one_out(Notes{at(13), at(12), at(13)}), 1);
  EXPECT_EQ(odd_one_out(Notes{at(12), at(13)}), 1) << "the one ahead";
}

TEST(StepNote, DifferencesAreToldByWhatIsDone) {
  const StepNote backward = noted(Phase::kBackward, 0, 12);
  EXPECT_EQ(difference({backward, noted(Phase::kForward, 0, 13)}),
            "ranks are at different steps: rank 0 in the backward pass of step 12, rank 1 in the "
            "forward pass of step 13");
  EXPECT_EQ(difference({noted(Phase::kRehook, 0, 12, 0, 0, "parameter 'a' was frozen"), backward})
                .find("the model was changed after it was wrapped, on some ranks only: "),
            0U);
  EXPECT_EQ(difference({backward, noted(Phase::kBackward, 1, 12)})
                .find("ranks use different models at the same time: "),
            0U);
  EXPECT_EQ(difference({noted(Phase::kForward, 0, 1, 7), noted(Phase::kForward, 0, 1, 8)})
                .find("the models' buffers are not the same"),
            0U);
  EXPECT_EQ(difference({noted(Phase::kBackward, 0, 1, 7, 0, "which leaves nothing out"),
                        noted(Phase::kBackward, 0, 1, 8, 0, "which leaves out parameter 'a'")})
                .find("ranks leave out different buckets: rank 0 in the backward pass of step 1 "
                      "(which leaves nothing out), rank 1 in the backward pass of step 1 (which "
                      "leaves out parameter 'a')"),
            0U);
  EXPECT_EQ(difference({backward, noted(Phase::kShadow)}), "none") << "it goes along with anything";
}

// The notes of a world, connected without a wire.
struct World {
  explicit World(int size) {
    for (Rank rank = 0; rank < size; ++rank)
      ranks.push_back(std::make_unique<StepNotes>(rank, size));
    for (Rank from = 0; from < size; ++from) {
      ranks[static_cast<size_t>(from)]->connect(
          [this, from](const std::string& text) {
            for (Rank to = 0; to < static_cast<Rank>(ranks.size()); ++to) {
              if (to == from) continue;
              EXPECT_TRUE(ranks[static_cast<size_t>(to)]->hear(from, text));
            }
          },
          [this](const std::string& what, Rank) { complaints.push_back(what); });
    }
  }
  std::vector<std::unique_ptr<StepNotes>> ranks;
  std::vector<std::string> complaints;
};

Instant soon() {
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
}

TEST(StepNotes, AgreeWhenAllHaveSaidTheSame) {
  World world(3);
  for (uint64_t step = 1; step < 5; ++step) {
    for (auto& rank : world.ranks)
      EXPECT_EQ(rank->post(noted(Phase::kBackward, 0, step)), step - 1);
    for (auto& rank : world.ranks)
      EXPECT_EQ(rank->await(step - 1, soon()), StepNotes::Outcome::kAgreed);
  }
  EXPECT_TRUE(world.complaints.empty());
}

TEST(StepNotes, WaitForTheSlowest) {
  World world(2);
  world.ranks[0]->post(noted(Phase::kBackward, 0, 1));
  EXPECT_EQ(world.ranks[0]->await(0, soon()), StepNotes::Outcome::kTimeOut);
  world.ranks[0]->give_up();
  EXPECT_EQ(world.ranks[0]->await(0, soon()), StepNotes::Outcome::kGivenUp);
}

TEST(StepNotes, EveryRankComplainsInTheSameWords) {
  World world(3);
  for (size_t rank = 0; rank < 3; ++rank)
    world.ranks[rank]->post(noted(Phase::kBackward, 0, rank == 1 ? 2U : 1U));
  ASSERT_EQ(world.complaints.size(), 3U);
  EXPECT_EQ(world.complaints[0], world.complaints[1]);
  EXPECT_EQ(world.complaints[0], world.complaints[2]);
  for (auto& rank : world.ranks) EXPECT_EQ(rank->await(0, soon()), StepNotes::Outcome::kGivenUp);
}

TEST(StepNotes, ChangesOfValuesAreToldToAll) {
  World world(2);
  world.ranks[0]->post(noted(Phase::kBackward, 0, 1, 0, 4));
  world.ranks[1]->post(noted(Phase::kBackward, 0, 1, 0, 5));
  for (auto& rank : world.ranks)
    EXPECT_EQ(rank->await(0, soon()), StepNotes::Outcome::kChangesDiffer);
  EXPECT_TRUE(world.complaints.empty());
}

TEST(StepNotes, ARankThatRunsAwayIsNotBelieved) {
  StepNotes notes(0, 2);
  bool believed = true;
  for (int i = 0; believed && i < 100'000; ++i)
    believed = notes.hear(1, encode(noted(Phase::kForward, 0, 1)));
  EXPECT_FALSE(believed);
  EXPECT_FALSE(notes.hear(1, "nonsense"));
}

}  // namespace
}  // namespace longhaul

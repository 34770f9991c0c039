#include "runtime/last_words.h"

#include <gtest/gtest.h>

#include "longhaul/ddp/model_mismatch_error.h"
#include "tests/runtime/fake_coordinator.h"

namespace longhaul {
namespace {

template <typename E>
std::exception_ptr made(E error) {
  return std::make_exception_ptr(std::move(error));
}

TEST(LastWords, AFaultKeepsWhatTheExceptionKnew) {
  const RankFault victim =
      fault_of(made(CollectiveError(ErrorKind::kPeerLost, "rank 3 is gone", 3)), 0);
  EXPECT_EQ(victim.kind, ErrorKind::kPeerLost);
  EXPECT_EQ(victim.message, "rank 3 is gone");
  EXPECT_EQ(victim.peer, 3);

  const RankFault own = fault_of(made(Error(ErrorKind::kInvalid, "no such file")), 0);
  EXPECT_EQ(own.kind, ErrorKind::kInvalid);
  EXPECT_EQ(own.peer, -1);

  const RankFault foreign =
      fault_of(made(std::runtime_error("first line\nbacktrace\nbacktrace")), 0);
  EXPECT_EQ(foreign.kind, ErrorKind::kInternal);
  EXPECT_EQ(foreign.message, "std::runtime_error: first line");
  EXPECT_EQ(fault_of(made(42), 0).message, "an exception of type int");
}

TEST(LastWords, DifferentModelsAreTheFaultOfTheRankThatDiffers) {
  const auto mismatch = made(ModelMismatchError("rank 2's parameter ...", 2));
  const RankFault own = fault_of(mismatch, 2);
  EXPECT_EQ(own.kind, ErrorKind::kInvalid);
  EXPECT_EQ(own.peer, -1);
  const RankFault others = fault_of(mismatch, 0);
  EXPECT_EQ(others.kind, ErrorKind::kPeerLost);
  EXPECT_EQ(others.peer, 2);
}

TEST(LastWords, OnlyTheFirstFaultIsTold) {
  auto coordinator = std::make_shared<testing::FakeCoordinator>();
  Speaker speaker;
  speaker.coordinator = coordinator;
  report_fault_briefly(speaker, {ErrorKind::kPeerLost, "the cause", 2});
  report_fault_briefly(speaker, {ErrorKind::kInternal, "a consequence", -1});
  ASSERT_EQ(coordinator->faults().size(), 1u);
  EXPECT_EQ(coordinator->faults()[0].message, "the cause");
}

}  // namespace
}  // namespace longhaul

// Worlds that meet, reduce, and are refused.
#include "longhaul/collectives/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <future>

#include "longhaul/base/strings.h"
#include "tests/support/cluster.h"

namespace longhaul::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class WorldTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, WorldTest, ::testing::Values(1, 2, 3, 4, 7));

at::Tensor all_reduce(Communicator& communicator, at::Tensor tensor) {
  std::vector<at::Tensor> tensors{tensor};
  EXPECT_TRUE(communicator.process_group()->allreduce(tensors)->wait());
  return tensor;
}

TEST_P(WorldTest, EveryCollectiveUsersNeedGivesWhatItShould) {
  expect_all_fine(run_ranks(GetParam(), [](RankContext& context) {
    const auto communicator = context.connect();
    const auto& group = communicator->process_group();
    const int n = context.size;
    const int rank = context.rank;
    const auto here = [&] { return torch::full({3}, rank + 1.0); };
    const double sum = n * (n + 1) / 2.0;

    EXPECT_TRUE(all_reduce(*communicator, here()).equal(torch::full({3}, sum)));

    std::vector<at::Tensor> root{here()};
    c10d::BroadcastOptions from_last;
    from_last.rootRank = n - 1;
    group->broadcast(root, from_last)->wait();
    EXPECT_TRUE(root[0].equal(torch::full({3}, double(n))));

    std::vector<std::vector<at::Tensor>> gathered(1);
    for (int i = 0; i < n; ++i) gathered[0].push_back(torch::zeros({3}));
    std::vector<at::Tensor> input{here()};
    group->allgather(gathered, input)->wait();
    for (int i = 0; i < n; ++i) EXPECT_TRUE(gathered[0][i].equal(torch::full({3}, i + 1.0)));

    std::vector<at::Tensor> parts_out{torch::zeros({3})};
    std::vector<std::vector<at::Tensor>> parts_in(1);
    for (int i = 0; i < n; ++i) parts_in[0].push_back(torch::full({3}, double(i)));
    group->reduce_scatter(parts_out, parts_in)->wait();
    EXPECT_TRUE(parts_out[0].equal(torch::full({3}, double(rank * n))));

    at::Tensor exchanged = torch::zeros({n});
    at::Tensor to_each = torch::full({n}, double(rank));
    std::vector<int64_t> even;
    group->alltoall_base(exchanged, to_each, even, even)->wait();
    EXPECT_TRUE(exchanged.equal(torch::arange(n, torch::kFloat)));

    group->barrier()->wait();
  }));
}

// Gloo's reduce-scatter ends inside wait(), which users call as often as they like.
TEST(TrafficTest, AnOperationEndsOnceHoweverOftenItIsWaitedFor) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    const auto communicator = context.connect();
    const auto running = [&] { return communicator->traffic().counts().operation; };
    std::vector<at::Tensor> out{torch::zeros({3})};
    std::vector<std::vector<at::Tensor>> in{{torch::ones({3}), torch::ones({3})}};
    auto waited = communicator->process_group()->reduce_scatter(out, in);
    EXPECT_THAT(running(), HasSubstr("reduce-scatter"));
    waited->wait();
    waited->wait();
    EXPECT_EQ(running(), "");
    auto never = communicator->process_group()->reduce_scatter(out, in);
    auto other = communicator->process_group()->reduce_scatter(out, in);
    other->wait();
    EXPECT_THAT(running(), HasSubstr("reduce-scatter"));
    never.reset();
    EXPECT_EQ(running(), "");
    communicator->process_group()->barrier()->wait();
  }));
}

// One store sees several worlds: of one process, or of programs that come after each other.
TEST_P(WorldTest, RanksMayMeetAgainInTheSameStore) {
  expect_all_fine(run_ranks(GetParam(), [](RankContext& context) {
    auto first = context.connect();
    const auto second = context.connect();
    EXPECT_TRUE(all_reduce(*second, torch::ones({3})).equal(torch::full({3}, context.size)));
    EXPECT_TRUE(all_reduce(*first, torch::ones({3})).equal(torch::full({3}, context.size)));
    first.reset();
    const auto third = context.connect();
    EXPECT_TRUE(all_reduce(*third, torch::ones({3})).equal(torch::full({3}, context.size)));
  }));
}

TEST(MeetingTest, ARankThatCameForNothingMayComeAgain) {
  std::promise<void> in_vain;
  const std::shared_future<void> gave_up = in_vain.get_future().share();
  expect_all_fine(run_ranks(2, [&](RankContext& context) {
    if (context.rank == 0) {
      const milliseconds usual = std::exchange(context.options.timeout, milliseconds(100));
      try {
        context.connect();
        FAIL() << "nobody else was there";
      } catch (const CollectiveError& error) {
        EXPECT_EQ(error.peer(), 1);
      }
      context.options.timeout = usual;
      in_vain.set_value();
    }
    gave_up.wait();
    EXPECT_TRUE(all_reduce(*context.connect(), torch::ones({3})).equal(torch::full({3}, 2.0)));
  }));
}

TEST_P(WorldTest, TheFutureHoldsTheTensors) {
  expect_all_fine(run_ranks(GetParam(), [](RankContext& context) {
    const auto communicator = context.connect();
    std::vector<at::Tensor> tensors{torch::ones({5})};
    const auto future = communicator->process_group()->allreduce(tensors)->getFuture();
    future->wait();
    EXPECT_TRUE(future->value().toTensorVector().at(0).equal(torch::full({5}, context.size)));
  }));
}

TEST_P(WorldTest, ASecondGroupOfTheSameNameIsAnotherGroup) {
  expect_all_fine(run_ranks(GetParam(), [](RankContext& context) {
    const auto communicator = context.connect();
    for (int i = 0; i < 2; ++i) {
      const auto group = communicator->new_process_group("again");
      std::vector<at::Tensor> tensors{torch::ones({2})};
      group->allreduce(tensors)->wait();
      EXPECT_TRUE(tensors[0].equal(torch::full({2}, context.size)));
    }
  }));
}

TEST(CommunicatorTest, RanksSendToEachOther) {
  expect_all_fine(run_ranks(3, [](RankContext& context) {
    const auto communicator = context.connect();
    const auto& group = communicator->process_group();
    std::vector<at::Tensor> out{torch::full({4}, double(context.rank))};
    std::vector<at::Tensor> in{torch::zeros({4})};
    const auto receiving = group->recv(in, (context.rank + 2) % 3, 5);
    const auto sending = group->send(out, (context.rank + 1) % 3, 5);
    receiving->wait();
    sending->wait();
    EXPECT_TRUE(in[0].equal(torch::full({4}, double((context.rank + 2) % 3))));
  }));
}

TEST(CommunicatorTest, AWorldOfOneNeedsNoStoreAndHasNobodyToSendTo) {
  const auto communicator = Communicator::create(nullptr, {});
  std::vector<at::Tensor> tensors{torch::ones({2})};
  EXPECT_THROW(communicator->process_group()->send(tensors, 0, 0), Error);
  EXPECT_EQ(communicator->suspect(), -1);
}

TEST(CommunicatorTest, TrafficCountsWhatARingSends) {
  expect_all_fine(run_ranks(4, [](RankContext& context) {
    const auto communicator = context.connect();
    all_reduce(*communicator, torch::ones({1000}));
    const TrafficCounts counts = communicator->traffic().counts();
    EXPECT_EQ(counts.bytes_sent, 2 * 3 * 4000 / 4);
    EXPECT_EQ(counts.bytes_raw, counts.bytes_sent);
    EXPECT_EQ(counts.operations, 1);
    EXPECT_EQ(counts.operation, "");
  }));
}

TEST(CommunicatorTest, OptionsThatMakeNoSenseAreRefused) {
  const auto kind_of = [](const CommunicatorOptions& options) {
    try {
      Communicator::create(nullptr, options);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kInternal;
  };
  CommunicatorOptions outside;
  outside.rank = 3;
  outside.size = 2;
  EXPECT_EQ(kind_of(outside), ErrorKind::kInvalid);
  CommunicatorOptions without_store;
  without_store.size = 2;
  EXPECT_EQ(kind_of(without_store), ErrorKind::kInvalid);
  CommunicatorOptions no_time;
  no_time.timeout = milliseconds(0);
  EXPECT_EQ(kind_of(no_time), ErrorKind::kInvalid);
}

TEST(CommunicatorTest, RanksThatDoNotComeAreNamed) {
  const auto reports = run_ranks(4, [](RankContext& context) {
    if (context.rank == 1 || context.rank == 3) return;
    context.options.timeout = milliseconds(4000);
    context.connect();
  });
  for (const Rank rank : {0, 2}) {
    const CollectiveError* error = reports[rank].collective_error();
    ASSERT_NE(error, nullptr);
    EXPECT_EQ(error->kind(), ErrorKind::kDeadline);
    EXPECT_EQ(error->peer(), 1);
    EXPECT_THAT(error->what(), HasSubstr("ranks 1, 3 did not come"));
  }
}

TEST(CommunicatorTest, ARankThatLeavesEarlyIsNamedAndTheStepAndBucketToo) {
  const auto reports = run_ranks(3, [](RankContext& context) {
    const auto communicator = context.connect();
    if (context.rank == 1) return;
    communicator->begin_step(17);
    for (int i = 0; i < 3; ++i) {
      std::vector<at::Tensor> tensors{torch::ones({1 << 20})};
      communicator->process_group()->allreduce(tensors)->wait();
    }
  });
  EXPECT_EQ(reports[1].what(), "");
  for (const Rank rank : {0, 2}) {
    const CollectiveError* error = reports[rank].collective_error();
    ASSERT_NE(error, nullptr);
    EXPECT_EQ(error->peer(), 1) << error->what();
    EXPECT_EQ(error->kind(), ErrorKind::kPeerLost);
    EXPECT_THAT(error->what(), AllOf(HasSubstr("all-reduce of 4.19 MB"),
                                     HasSubstr("bucket 0 of step 17"), HasSubstr("rank 1")));
  }
}

TEST(CommunicatorTest, ARankThatDoesNotTakePartRunsIntoTheDeadline) {
  const auto reports = run_ranks(3, [](RankContext& context) {
    context.options.timeout = milliseconds(1500);
    const auto communicator = context.connect();
    if (context.rank == 2) {
      // Alive and connected until the others have given up.
      context.store->wait({"gave-up/0", "gave-up/1"}, std::chrono::seconds(60));
      return;
    }
    try {
      all_reduce(*communicator, torch::ones({8}));
    } catch (const CollectiveError& error) {
      context.store->set(str_cat("gave-up/", context.rank), std::string("1"));
      throw;
    }
  });
  for (const Rank rank : {0, 1}) {
    const CollectiveError* error = reports[rank].collective_error();
    ASSERT_NE(error, nullptr);
    EXPECT_EQ(error->kind(), ErrorKind::kDeadline) << error->what();
    EXPECT_EQ(error->peer(), 2) << error->what();
    EXPECT_THAT(error->what(), HasSubstr("did not take part"));
  }
}

TEST(CommunicatorTest, AfterAFailureNothingStartsAndTheCauseIsTheSame) {
  const auto reports = run_ranks(2, [](RankContext& context) {
    const auto communicator = context.connect();
    if (context.rank == 1) return;
    EXPECT_THROW(all_reduce(*communicator, torch::ones({8})), CollectiveError);
    all_reduce(*communicator, torch::ones({8}));
  });
  const CollectiveError* error = reports[0].collective_error();
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(error->peer(), 1);
  EXPECT_THAT(error->what(), HasSubstr("cannot start"));
}

TEST(CommunicatorTest, ACallThatIsWrongInItselfFailsAloneAndHarmsNobody) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    const auto communicator = context.connect();
    std::vector<at::Tensor> mixed{torch::ones({2}), torch::ones({2}, torch::kDouble)};
    try {
      communicator->process_group()->allreduce(mixed)->wait();
      FAIL() << "two dtypes in one all-reduce were taken";
    } catch (const CollectiveError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalid);
    }
    all_reduce(*communicator, torch::ones({2}));
  }));
}

}  // namespace
}  // namespace longhaul::testing

// The backend over links, with PyTorch's Gloo backend beside it: the same bits where Gloo's are
// right, what they should be elsewhere.
#include "collectives/links_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <cmath>
#include <functional>
#include <numeric>
#include <random>

#include "longhaul/base/strings.h"
#include "tests/support/cluster.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

class LinksWorldTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, LinksWorldTest, ::testing::Values(2, 3, 4, 7));

c10::intrusive_ptr<c10d::ProcessGroup> group_over(RankContext& context, const std::string& backend,
                                                  std::shared_ptr<Communicator>* keep) {
  context.options.backend = backend;
  *keep = context.connect();
  return (*keep)->process_group();
}

// Values of very different magnitudes, so that each order of adding gives other bits; in every
// hundredth place something special.
at::Tensor odd_values(int64_t elements, c10::ScalarType type, int seed) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::vector<double> values(static_cast<size_t>(elements));
  constexpr double kSpecial[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e-40};
  for (double& value : values) {
    const double scale = std::ldexp(1.0, static_cast<int>(random() % 30) - 15);
    value = (static_cast<double>(random()) / 4294967296.0 - 0.5) * scale;
    if (random() % 100 == 0) value = kSpecial[random() % 6];
  }
  if (c10::isIntegralType(type, true)) {
    for (double& value : values) value = static_cast<double>(random() % 200) - 100;
    if (type == c10::kByte) {
      for (double& value : values) value = std::abs(value);
    }
  }
  return at::tensor(values, at::kDouble).to(type);
}

std::string bits_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {static_cast<const char*>(flat.data_ptr()), flat.nbytes()};
}

TEST_P(LinksWorldTest, AllReducesHaveTheBitsOfGloo) {
  expect_all_fine(run_ranks(GetParam(), [](RankContext& context) {
    std::shared_ptr<Communicator> keep[2];
    const auto links = group_over(context, "links", &keep[0]);
    const auto gloo = group_over(context, "gloo", &keep[1]);
    using Op = c10d::ReduceOp;
    for (const c10::ScalarType type : {c10::kFloat, c10::kDouble, c10::kHalf, c10::kBFloat16,
                                       c10::kInt, c10::kLong, c10::kChar, c10::kByte}) {
      const bool whole = c10::isIntegralType(type, false);
      for (const Op& op : {Op(Op::SUM), Op(Op::AVG), Op(Op::PRODUCT), Op(Op::MIN), Op(Op::MAX),
                           Op(Op::BAND), Op(Op::BXOR)}) {
        if (op == Op::AVG && whole) continue;
        if ((op == Op::BAND || op == Op::BXOR) && !whole) continue;
        const bool sum = op == Op::SUM || op == Op::AVG;
        for (const int64_t elements : {0, 1, 5, 64, 4'097, sum ? 1'300'003 : 70'001}) {
          if (elements > 100'000 && type != c10::kFloat && type != c10::kBFloat16) continue;
          std::vector<at::Tensor> over[2];
          c10d::AllreduceOptions options;
          options.reduceOp = op;
          for (std::vector<at::Tensor>& one : over) {
            one = {odd_values(elements, type, context.rank * 1'000 + static_cast<int>(elements))};
          }
          links->allreduce(over[0], options)->wait();
          gloo->allreduce(over[1], options)->wait();
          ASSERT_EQ(bits_of(over[0][0]) == bits_of(over[1][0]), true)
              << type << " op " << static_cast<int>(op.op_) << " of " << elements;
        }
      }
    }
  }));
}

TEST_P(LinksWorldTest, ManyAtOnceOfManySizesHaveTheBitsOfGloo) {
  expect_all_fine(run_ranks(GetParam(), [](RankContext& context) {
    std::shared_ptr<Communicator> keep[2];
    const auto links = group_over(context, "links", &keep[0]);
    const auto gloo = group_over(context, "gloo", &keep[1]);
    constexpr int kOperations = 40;
    std::vector<std::vector<at::Tensor>> over[2];
    std::vector<c10::intrusive_ptr<c10d::Work>> works;
    for (int i = 0; i < kOperations; ++i) {
      const int64_t elements = i % 5 == 0 ? 700'000 : i * 331;
      for (auto& all : over) {
        all.push_back({odd_values(elements, c10::kFloat, context.rank + 100 * i)});
      }
    }
    for (auto& tensors : over[0]) works.push_back(links->allreduce(tensors));
    for (const auto& work : works) work->wait();
    for (auto& tensors : over[1]) gloo->allreduce(tensors)->wait();
    for (int i = 0; i < kOperations; ++i) {
      ASSERT_EQ(bits_of(over[0][i][0]) == bits_of(over[1][i][0]), true) << i;
    }
  }));
}

TEST_P(LinksWorldTest, CoalescedAndComplexOnesToo) {
  expect_all_fine(run_ranks(GetParam(), [](RankContext& context) {
    std::shared_ptr<Communicator> keep[2];
    const auto links = group_over(context, "links", &keep[0]);
    const auto gloo = group_over(context, "gloo", &keep[1]);
    std::vector<at::Tensor> over[2];
    for (std::vector<at::Tensor>& one : over) {
      for (const int64_t elements : {3, 0, 1'000, 77}) {
        one.push_back(odd_values(elements, c10::kFloat, context.rank + static_cast<int>(elements)));
      }
      one.push_back(odd_values(12, c10::kFloat, context.rank).view({3, 4}).t());
    }
    links->allreduce_coalesced(over[0])->wait();
    gloo->allreduce_coalesced(over[1])->wait();
    for (size_t i = 0; i < over[0].size(); ++i) {
      EXPECT_EQ(bits_of(over[0][i]) == bits_of(over[1][i]), true) << i;
    }
    for (std::vector<at::Tensor>& one : over) {
      one = {at::view_as_complex(odd_values(2'000, c10::kFloat, context.rank).view({-1, 2}))};
    }
    links->allreduce(over[0])->wait();
    gloo->allreduce(over[1])->wait();
    EXPECT_EQ(bits_of(over[0][0]) == bits_of(over[1][0]), true);
  }));
}

TEST_P(LinksWorldTest, SparseOnesAreAddedAsGlooDoes) {
  expect_all_fine(run_ranks(GetParam(), [](RankContext& context) {
    std::shared_ptr<Communicator> keep[2];
    const auto links = group_over(context, "links", &keep[0]);
    const auto gloo = group_over(context, "gloo", &keep[1]);
    for (const int64_t entries : {0, 1, 300}) {
      std::vector<at::Tensor> over[2];
      for (std::vector<at::Tensor>& one : over) {
        // Not coalesced, and none at all on rank 1.
        const int64_t mine = context.rank == 1 ? 0 : entries;
        std::mt19937 random(static_cast<uint32_t>(context.rank));
        std::vector<int64_t> rows(static_cast<size_t>(mine));
        for (int64_t& row : rows) row = random() % 50;
        const at::Tensor values =
            odd_values(mine * 3, c10::kFloat, context.rank).nan_to_num().view({mine, 3});
        one = {at::sparse_coo_tensor(at::tensor(rows, at::kLong).view({1, -1}), values, {50, 3})};
      }
      links->allreduce(over[0])->wait();
      gloo->allreduce(over[1])->wait();
      EXPECT_EQ(bits_of(over[0][0].to_dense()) == bits_of(over[1][0].to_dense()), true) << entries;
      EXPECT_TRUE(over[0][0].is_coalesced());
    }
  }));
}

// Also where Gloo reads memory as if there were no strides.
TEST_P(LinksWorldTest, EveryCollectiveGivesWhatItShouldWhateverTheStrides) {
  expect_all_fine(run_ranks(GetParam(), [](RankContext& context) {
    std::shared_ptr<Communicator> keep;
    const auto group = group_over(context, "links", &keep);
    const int n = context.size;
    const int rank = context.rank;
    const auto strided = [] { return torch::zeros({4, 6}).slice(1, 0, 6, 2); };
    const auto here = [&] { return strided().fill_(rank + 1.0); };
    const at::Tensor shape = torch::ones({4, 3});
    const double sum = n * (n + 1) / 2.0;

    std::vector<at::Tensor> one{here()};
    group->allreduce(one)->wait();
    EXPECT_TRUE(one[0].equal(shape * sum));

    one = {here()};
    c10d::BroadcastOptions from_last;
    from_last.rootRank = n - 1;
    group->broadcast(one, from_last)->wait();
    EXPECT_TRUE(one[0].equal(shape * n));

    one = {here()};
    c10d::ReduceOptions to_first;
    group->reduce(one, to_first)->wait();
    EXPECT_TRUE(one[0].equal(rank == 0 ? shape * sum : shape * (rank + 1))) << "no partial sums";

    std::vector<std::vector<at::Tensor>> lists(1);
    for (int i = 0; i < n; ++i) lists[0].push_back(strided());
    one = {here()};
    group->allgather(lists, one)->wait();
    for (int i = 0; i < n; ++i) EXPECT_TRUE(lists[0][i].equal(shape * (i + 1)));

    at::Tensor base = torch::zeros({n * 4, 3});
    at::Tensor input = here();
    group->_allgather_base(base, input)->wait();
    for (int i = 0; i < n; ++i) EXPECT_TRUE(base.narrow(0, 4 * i, 4).equal(shape * (i + 1)));

    std::vector<at::Tensor> inputs{here(), torch::full({2}, double(rank))};
    std::vector<std::vector<at::Tensor>> by_rank;
    by_rank.reserve(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i) by_rank.push_back({strided(), torch::zeros({2})});
    group->allgather_coalesced(by_rank, inputs)->wait();
    for (int i = 0; i < n; ++i) {
      EXPECT_TRUE(by_rank[i][0].equal(shape * (i + 1)));
      EXPECT_TRUE(by_rank[i][1].equal(torch::full({2}, double(i))));
    }

    std::vector<std::vector<at::Tensor>> gathered;
    if (rank == 1) {
      gathered.emplace_back();
      for (int i = 0; i < n; ++i) gathered[0].push_back(strided());
    }
    one = {here()};
    c10d::GatherOptions to_second;
    to_second.rootRank = 1;
    group->gather(gathered, one, to_second)->wait();
    for (int i = 0; rank == 1 && i < n; ++i) EXPECT_TRUE(gathered[0][i].equal(shape * (i + 1)));

    std::vector<std::vector<at::Tensor>> scattered;
    if (rank == 1) {
      scattered.emplace_back();
      for (int i = 0; i < n; ++i) scattered[0].push_back(strided().fill_(double(i)));
    }
    one = {strided()};
    c10d::ScatterOptions from_second;
    from_second.rootRank = 1;
    group->scatter(one, scattered, from_second)->wait();
    EXPECT_TRUE(one[0].equal(shape * rank));

    std::vector<std::vector<at::Tensor>> parts(1);
    for (int i = 0; i < n; ++i) parts[0].push_back(strided().fill_(double(i)));
    one = {strided()};
    group->reduce_scatter(one, parts)->wait();
    EXPECT_TRUE(one[0].equal(shape * (rank * n)));

    at::Tensor whole = torch::arange(n, torch::kFloat).repeat_interleave(5).view({n, 5});
    at::Tensor own = torch::zeros({5});
    group->_reduce_scatter_base(own, whole)->wait();
    EXPECT_TRUE(own.equal(torch::full({5}, double(rank * n))));

    at::Tensor exchanged = torch::zeros({n});
    at::Tensor to_each = torch::full({n}, double(rank));
    std::vector<int64_t> even;
    group->alltoall_base(exchanged, to_each, even, even)->wait();
    EXPECT_TRUE(exchanged.equal(torch::arange(n, torch::kFloat)));

    // Rank r gives rank p r + 1 rows that say r.
    std::vector<int64_t> gives(n, rank + 1);
    std::vector<int64_t> gets(n);
    std::iota(gets.begin(), gets.end(), 1);
    at::Tensor rows = torch::full({n * (rank + 1), 2}, double(rank));
    at::Tensor uneven = torch::zeros({n * (n + 1) / 2, 2});
    group->alltoall_base(uneven, rows, gets, gives)->wait();
    int64_t at = 0;
    for (int i = 0; i < n; ++i) {
      EXPECT_TRUE(uneven.narrow(0, at, i + 1).equal(torch::full({i + 1, 2}, double(i))));
      at += i + 1;
    }

    std::vector<at::Tensor> outs;
    std::vector<at::Tensor> ins;
    for (int i = 0; i < n; ++i) {
      outs.push_back(strided());
      ins.push_back(here());
    }
    group->alltoall(outs, ins)->wait();
    for (int i = 0; i < n; ++i) EXPECT_TRUE(outs[i].equal(shape * (i + 1)));

    at::Tensor yes = torch::full({3}, rank == 1).to(torch::kBool);
    one = {yes};
    group->allreduce(one)->wait();
    EXPECT_EQ(bits_of(yes), std::string(3, '\1')) << "a bool is 0 or 1";
    group->barrier()->wait();
  }));
}

TEST_P(LinksWorldTest, RanksSendToEachOtherByTagsInOrder) {
  expect_all_fine(run_ranks(GetParam(), [](RankContext& context) {
    std::shared_ptr<Communicator> keep;
    const auto group = group_over(context, "links", &keep);
    const int next = (context.rank + 1) % context.size;
    const int before = (context.rank + context.size - 1) % context.size;
    std::vector<c10::intrusive_ptr<c10d::Work>> works;
    std::vector<std::vector<at::Tensor>> sent;
    std::vector<std::vector<at::Tensor>> got;
    for (int i = 0; i < 6; ++i) {
      sent.push_back({torch::full({3}, double(i))});
      got.push_back({torch::full({5}, -1.0)});
    }
    works.reserve(2 * sent.size());
    for (int i = 0; i < 6; ++i) works.push_back(group->recv(got[i], before, i % 2));
    for (int i = 0; i < 6; ++i) works.push_back(group->send(sent[i], next, i % 2));
    for (const auto& work : works) work->wait();
    for (int i = 0; i < 6; ++i) {
      EXPECT_TRUE(got[i][0].narrow(0, 0, 3).equal(sent[i][0])) << i;
      EXPECT_TRUE(got[i][0].narrow(0, 3, 2).equal(torch::full({2}, -1.0))) << "a shorter message";
    }
  }));
}

// What is wrong with a call is said at the call, and the world goes on.
TEST(LinksBackendTest, AWrongCallIsRefusedAndTheWorldGoesOn) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    std::shared_ptr<Communicator> keep;
    const auto group = group_over(context, "links", &keep);
    const auto refused = [&](const std::function<void()>& call, const char* why) {
      try {
        call();
        ADD_FAILURE() << "not refused: " << why;
      } catch (const CollectiveError& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kInvalid);
        EXPECT_THAT(error.what(), HasSubstr(why));
      }
    };
    std::vector<at::Tensor> whole{torch::ones({3}, torch::kInt)};
    std::vector<at::Tensor> shorts{torch::ones({3}, torch::kShort)};
    std::vector<at::Tensor> two{torch::ones({3}), torch::ones({3})};
    std::vector<at::Tensor> real{torch::ones({3})};
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::AVG;
    refused([&] { group->allreduce(whole, options); }, "have no average");
    options.reduceOp = c10d::ReduceOp::BAND;
    refused([&] { group->allreduce(real, options); }, "bitwise operations");
    refused([&] { group->allreduce(shorts); }, "cannot be reduced");
    refused([&] { group->allreduce(two); }, "one tensor a rank");
    c10d::BroadcastOptions from;
    from.rootRank = 2;
    refused([&] { group->broadcast(real, from); }, "the root is rank 2");
    refused([&] { group->send(real, context.rank, 0); }, "another rank");
    refused([&] { group->send(real, 1 - context.rank, -1); }, "a tag is 0 or more");
    at::Tensor out = torch::zeros({3});
    at::Tensor in = torch::zeros({3});
    std::vector<int64_t> splits{1, 1};
    std::vector<int64_t> none;
    refused([&] { group->alltoall_base(out, in, none, splits); }, "divided evenly");
    group->allreduce(real)->wait();
    EXPECT_TRUE(real[0].equal(torch::full({3}, 2.0)));
  }));
}

TEST(LinksBackendTest, RanksThatDoNotAgreeOnASizeHearWho) {
  const auto reports = run_ranks(3, [](RankContext& context) {
    std::shared_ptr<Communicator> keep;
    const auto group = group_over(context, "links", &keep);
    std::vector<at::Tensor> tensors{torch::ones({context.rank == 1 ? 900 : 1'000})};
    group->allreduce(tensors)->wait();
  });
  for (const RankReport& report : reports) {
    const CollectiveError* error = report.collective_error();
    ASSERT_NE(error, nullptr);
    EXPECT_EQ(error->kind(), ErrorKind::kCorrupt) << error->what();
    EXPECT_THAT(error->what(), HasSubstr("bytes where"));
  }
}

TEST(LinksBackendTest, RanksThatUseOtherBackendsHearSo) {
  const auto reports = run_ranks(2, [](RankContext& context) {
    context.options.backend = context.rank == 0 ? "gloo" : "links";
    context.connect();
  });
  for (const RankReport& report : reports) {
    EXPECT_THAT(report.what(), HasSubstr("uses the backend"));
    EXPECT_THAT(report.what(), HasSubstr("LONGHAUL_BACKEND"));
  }
}

TEST(LinksBackendTest, ABackendThatIsNotThereIsNamed) {
  const auto reports = run_ranks(2, [](RankContext& context) {
    context.options.backend = "mpi";
    context.connect();
  });
  EXPECT_THAT(reports[0].what(), HasSubstr("there is no backend 'mpi'"));
}

// Callbacks run on a thread of ours, and may do what they like.
TEST(LinksBackendTest, ACallbackMayReduceAgainAndDropTheWorld) {
  expect_all_fine(run_ranks(2, [](RankContext& context) {
    std::shared_ptr<Communicator> keep;
    auto group = group_over(context, "links", &keep);
    std::vector<at::Tensor> first{torch::ones({10})};
    auto done = c10::make_intrusive<c10::ivalue::Future>(c10::TensorType::get());
    auto work = group->allreduce(first);
    auto again = work->getFuture()->then(
        [group, done](c10::ivalue::Future& before) {
          std::vector<at::Tensor> second{before.value().toTensorVector()[0] * 2};
          auto next = group->allreduce(second);
          next->getFuture()->addCallback([done, next](c10::ivalue::Future& after) {
            done->markCompleted(after.value().toTensorVector()[0]);
          });
          return c10::IValue();
        },
        c10::NoneType::get());
    work.reset();
    done->wait();
    EXPECT_TRUE(done->value().toTensor().equal(torch::full({10}, 8.0)));
    again.reset();
    group->barrier()->wait();
  }));
}

}  // namespace
}  // namespace longhaul::testing

// NCCL in a world of one, on the one GPU there is: the process group as the library makes it for
// several ranks, the Reducer over it, and the wrapper on a GPU. Skipped by name where there is no
// GPU.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <memory>

#include "collectives/nccl_backend.h"
#include "ddp/reducer_factory.h"
#include "longhaul/ddp/distributed_data_parallel.h"
#include "tests/gpu/test_device.h"

namespace longhaul::testing {
namespace {

class Nccl : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test_device().is_cuda()) GTEST_SKIP() << "no CUDA device";
    options_.device = test_device();
    auto store = c10::make_intrusive<c10d::HashStore>();
    group_ = c10::make_intrusive<c10d::ProcessGroup>(store, 0, 1);
    group_->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL,
                       make_nccl_backend(store, options_));
    group_->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
  }

  static at::Tensor numbers(int64_t count = 100003) {
    return gradient(7, count, at::kFloat).to(test_device());
  }

  CommunicatorOptions options_;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
};

TEST_F(Nccl, CollectivesOfOneRankGiveBackWhatTheyGot) {
  const at::Tensor expected = numbers();
  std::vector<at::Tensor> sum = {numbers()};
  group_->allreduce(sum)->wait();
  EXPECT_TRUE(equal_bits(sum[0], expected));
  std::vector<at::Tensor> same = {numbers()};
  group_->broadcast(same)->wait();
  EXPECT_TRUE(equal_bits(same[0], expected));
  std::vector<std::vector<at::Tensor>> gathered = {{torch::empty_like(expected)}};
  group_->allgather(gathered, same)->wait();
  EXPECT_TRUE(equal_bits(gathered[0][0], expected));
  group_->barrier()->wait();
}

TEST_F(Nccl, AFutureHoldsUpTheStreamOfWhoReadsIt) {
  std::vector<at::Tensor> sum = {numbers()};
  const auto future = group_->allreduce(sum)->getFuture();
  future->wait();
  EXPECT_TRUE(equal_bits(future->value().toTensorVector().at(0) * 2, numbers() * 2));
}

// Gradients of the model through the Reducer over this group, and without it.
TEST_F(Nccl, TheReducersGradientsAreThePlainOnes) {
  torch::manual_seed(2);
  torch::nn::Sequential model(torch::nn::Linear(64, 512), torch::nn::ReLU(),
                              torch::nn::Linear(512, 10));
  model->to(test_device());
  TrainedParameters trained;
  for (const auto& item : model->named_parameters()) {
    trained.tensors.push_back(item.value());
    trained.expect_sparse.push_back(false);
    trained.names.push_back(item.key());
  }
  const at::Tensor input = numbers(64 * 8).view({8, 64});
  const auto plain = torch::autograd::grad({model->forward(input).square().sum()}, trained.tensors);
  const auto reducer = make_reducer(trained, group_, {});
  for (int step = 0; step < 3; ++step) {
    model->zero_grad();
    reducer->prepare_for_forward();
    reducer->rebuild_buckets();
    const at::Tensor loss = model->forward(input).square().sum();
    reducer->prepare_for_backward({});
    loss.backward();
    for (size_t i = 0; i < plain.size(); ++i)
      EXPECT_TRUE(equal_bits(trained.tensors[i].grad(), plain[i])) << trained.names[i];
  }
}

TEST_F(Nccl, AWorldOfOneOnAGpuChangesNothing) {
  for (const char* codec : {"none", "zstd", "rms:step=0.5"}) {
    torch::manual_seed(3);
    torch::nn::Linear model(64, 10);
    model->to(test_device());
    const at::Tensor input = numbers(64 * 8).view({8, 64});
    const auto plain =
        torch::autograd::grad({model->forward(input).square().sum()}, model->parameters());
    DistributedDataParallelOptions options;
    options.codec = *CodecSpec::parse(codec);
    DistributedDataParallel ddp(Communicator::create(nullptr, options_), model, options);
    ddp(input).square().sum().backward();
    for (size_t i = 0; i < plain.size(); ++i)
      EXPECT_TRUE(equal_bits(model->parameters()[i].grad(), plain[i])) << codec;
  }
}

}  // namespace
}  // namespace longhaul::testing

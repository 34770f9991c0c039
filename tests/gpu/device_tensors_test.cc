// Tensors of a device through every codec, between processes that share the device: they are
// reduced by way of the host's memory, to the bits that the same numbers give on the CPU.
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>

#include "ddp/codec_hook.h"
#include "ddp/error_feedback.h"
#include "ddp/reducer_factory.h"
#include "longhaul/base/strings.h"
#include "longhaul/codec/codec.h"
#include "longhaul/collectives/compressed_allreduce.h"
#include "tests/gpu/test_device.h"
#include "tests/support/cluster.h"

namespace longhaul::testing {
namespace {

constexpr const char* kCodecs[] = {"none",
                                   "zstd",
                                   "lossless",
                                   "bf16",
                                   "bf16:stage=rice",
                                   "bf16:rounding=stochastic",
                                   "fp16",
                                   "fp16:stage=huffman",
                                   "int8",
                                   "int8:stage=rice",
                                   "int8:rounding=stochastic",
                                   "rms:step=0.5",
                                   "rms:step=0.5,stage=packed",
                                   "rms:step=0.5,stage=huffman",
                                   "rms:step=1,result=0.5",
                                   "rms:step=2,rounding=stochastic"};

ElementType element_type(at::ScalarType type) {
  if (type == at::kBFloat16) return ElementType::kBFloat16;
  if (type == at::kHalf) return ElementType::kFloat16;
  return type == at::kDouble ? ElementType::kFloat64 : ElementType::kFloat32;
}

// All ranks ended well and with the same text.
void expect_alike(const std::vector<ProcessReport>& reports) {
  for (size_t rank = 0; rank < reports.size(); ++rank) {
    EXPECT_TRUE(reports[rank].exited && reports[rank].exit_code == 0)
        << "rank " << rank << ": " << reports[rank].text;
    EXPECT_EQ(reports[rank].text, reports[0].text) << "rank " << rank;
  }
}

std::string bits_of(const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().cpu().contiguous();
  return std::to_string(std::hash<std::string_view>()(
      {static_cast<const char*>(host.data_ptr()), static_cast<size_t>(host.nbytes())}));
}

at::Tensor reduce(CompressedAllreduce& allreduce, const at::Tensor& tensor, double scale,
                  uint32_t bucket, const at::Tensor& residual = {}) {
  const auto future = allreduce.start(tensor, scale, 3, bucket, 0, residual);
  future->wait();  // and makes the current streams wait, as the Reducer does
  if (future->hasError()) std::rethrow_exception(future->exception_ptr());
  return tensor;
}

class DeviceTensors : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Worlds, DeviceTensors, ::testing::Values(1, 2, 3, 4),
                         [](const auto& info) { return str_cat("World", info.param); });

TEST_P(DeviceTensors, EveryCodecTypeAndSizeGivesTheBitsOfTheCpu) {
  expect_alike(run_processes(GetParam(), [](RankContext& context) {
    const auto communicator = context.connect();
    std::string seen;
    for (const char* name : kCodecs) {
      const CodecSpec spec = *CodecSpec::parse(name);
      CompressedAllreduce allreduce(communicator, {spec});
      uint32_t bucket = 0;
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
        if (!check_supports(spec, element_type(type))) continue;
        for (const int64_t count : {0, 1, 7, 4099, 600011}) {
          const at::Tensor mine = gradient(10 * bucket + context.rank, count, type);
          const at::Tensor host = reduce(allreduce, mine.clone(), 1.0 / context.size, bucket);
          const at::Tensor device = reduce(allreduce, mine.to(test_device(), type, false, true),
                                           1.0 / context.size, bucket);
          require(device.device() == test_device(), "the result left the device");
          require(equal_bits(device, host), str_cat(name, ", ", c10::toString(type), ", ", count));
          seen += bits_of(device) + " ";
          ++bucket;
        }
      }
    }
    return seen;
  }));
}

// A tensor whose kernels are still queued on a stream of the caller's is reduced with what they
// will have written, and what the caller queues behind the future sees the result.
TEST_P(DeviceTensors, WaitForTheCallersStreamAndHoldItUp) {
  expect_alike(run_processes(GetParam(), [](RankContext& context) {
    const c10::Device device = test_device();
    const auto communicator = context.connect();
    CompressedAllreduce allreduce(communicator, {*CodecSpec::parse("zstd")});
    std::optional<c10::StreamGuard> other;
    if (device.is_cuda())
      other.emplace(c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device));
    const int64_t width = device.is_cuda() ? 3000 : 50;
    for (uint32_t round = 0; round < 5; ++round) {
      at::Tensor work = torch::full({width, width}, 1.0 + context.rank, torch::device(device));
      const at::Tensor one = torch::eye(width, torch::device(device));
      for (int i = 0; i < 20; ++i) work = work.mm(one);
      const at::Tensor sum = reduce(allreduce, work.flatten(), 1, round) + 1;
      const int64_t ranks = context.size;
      const int64_t total = ranks * (ranks + 1) / 2 + 1;
      const at::Tensor expected = torch::full_like(sum, double(total));
      require(equal_bits(sum, expected), str_cat("round ", round));
    }
    return std::string();
  }));
}

TEST_P(DeviceTensors, ErrorFeedbackLeavesTheResidualsOfTheCpu) {
  expect_alike(run_processes(GetParam(), [](RankContext& context) {
    const auto communicator = context.connect();
    CompressedAllreduce allreduce(communicator, {*CodecSpec::parse("rms:step=1")});
    const at::Tensor host_residual = torch::zeros({300000});
    const at::Tensor device_residual = torch::zeros({300000});
    for (uint32_t step = 0; step < 3; ++step) {
      const at::Tensor mine = gradient(step * 10 + context.rank, 300000, at::kFloat);
      const at::Tensor on_device = mine.to(test_device(), at::kFloat, false, true);
      reduce(allreduce, mine, 1.0 / context.size, 2 * step, host_residual);
      reduce(allreduce, on_device, 1.0 / context.size, 2 * step, device_residual);
      require(equal_bits(on_device, mine), "the sums differ");
      require(equal_bits(device_residual, host_residual), "the residuals differ");
    }
    return std::string();
  }));
}

// PyTorch's Reducer with our hook, as DistributedDataParallel sets it up, over a model on the
// device: gradients equal the mean of all ranks' own, within the codec's error, to the same bits on
// every rank.
void train_through_hook(RankContext& context, const std::string& codec, double tolerance,
                        std::string& seen) {
  torch::manual_seed(1);
  const c10::Device device = test_device();
  torch::nn::Sequential model(torch::nn::Linear(64, 512), torch::nn::ReLU(),
                              torch::nn::Linear(512, 300));
  model->to(device);
  const auto communicator = context.connect();
  TrainedParameters trained;
  for (const auto& item : model->named_parameters()) {
    trained.tensors.push_back(item.value());
    trained.expect_sparse.push_back(false);
    trained.names.push_back(item.key());
  }
  const auto reducer = make_reducer(trained, communicator->process_group(), {});
  const std::atomic<uint64_t> step = 1;
  reducer->register_comm_hook(
      std::make_unique<CodecHook>(communicator, *CodecSpec::parse(codec), step, nullptr));
  const auto loss = [&](int64_t rank) {
    return model->forward(gradient(rank + 50, 8 * 64, at::kFloat).view({8, 64}).to(device))
        .square()
        .sum();
  };
  std::vector<at::Tensor> mean;
  for (int64_t rank = 0; rank < context.size; ++rank) {
    const auto own = torch::autograd::grad({loss(rank)}, trained.tensors);
    for (size_t i = 0; i < own.size(); ++i) {
      if (rank == 0) mean.push_back(torch::zeros_like(own[i]));
      mean[i] += own[i] / context.size;
    }
  }
  const at::Tensor output = loss(context.rank);
  reducer->prepare_for_forward();
  reducer->prepare_for_backward({});
  output.backward();
  for (size_t i = 0; i < mean.size(); ++i) {
    const at::Tensor got = trained.tensors[i].grad();
    const double wrong = (got - mean[i]).norm().item<double>() / mean[i].norm().item<double>();
    require(wrong <= tolerance, str_cat(codec, ", ", trained.names[i], ": off by ", wrong));
    seen += bits_of(got) + " ";
  }
}

TEST_P(DeviceTensors, GradientsThroughTheReducersHook) {
  expect_alike(run_processes(GetParam(), [](RankContext& context) {
    std::string seen;
    train_through_hook(context, "zstd", 1e-5, seen);
    train_through_hook(context, "int8", 0.03, seen);
    train_through_hook(context, "rms:step=0.5", 0.3, seen);
    return seen;
  }));
}

}  // namespace
}  // namespace longhaul::testing

#include "ddp/delayed_reduction.h"

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <utility>

#include "longhaul/base/error.h"

namespace longhaul {
namespace {

at::Tensor sum_over_ranks(const c10::intrusive_ptr<c10d::ProcessGroup>& group, at::Tensor tensor) {
  std::vector<at::Tensor> tensors = {std::move(tensor)};
  group->allreduce(tensors)->wait();
  return tensors[0];
}

}  // namespace

DelayedReduction::DelayedReduction(Communicator& communicator)
    : group_(communicator.new_process_group("delayed")) {}

void DelayedReduction::reduce(const std::vector<at::Tensor>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  gradients.reserve(parameters.size());
  for (const at::Tensor& parameter : parameters) {
    gradients.push_back(parameter.grad());
    if (gradients.back().defined() && gradients.back().is_sparse())
      throw Error(ErrorKind::kInvalid, "delay_all_reduce takes no parameter with sparse gradients");
  }
  const std::vector<at::Tensor> averages = sum(parameters, gradients);
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!averages[i].defined()) continue;
    if (gradients[i].defined()) {
      gradients[i].copy_(averages[i]);
    } else {
      parameters[i].mutable_grad() = averages[i].clone();
    }
  }
}

void DelayedReduction::reduce_zeros(const std::vector<at::Tensor>& parameters) {
  sum(parameters, std::vector<at::Tensor>(parameters.size()));
}

// Divides before it adds, as the Reducer does. One all-reduce per type, and one of who has what.
// The types are keys of a std::map, so that all ranks go through them in the same order.
std::vector<at::Tensor> DelayedReduction::sum(const std::vector<at::Tensor>& parameters,
                                              const std::vector<at::Tensor>& gradients) {
  at::Tensor used = at::zeros({static_cast<int64_t>(parameters.size())}, at::kLong);
  std::map<at::ScalarType, std::vector<at::Tensor>> parts;
  for (size_t i = 0; i < parameters.size(); ++i) {
    used[static_cast<int64_t>(i)] = gradients[i].defined() ? 1 : 0;
    parts[parameters[i].scalar_type()].push_back(
        gradients[i].defined() ? gradients[i].reshape({-1}).div(group_->getSize())
                               : at::zeros({parameters[i].numel()}, parameters[i].options()));
  }
  used = sum_over_ranks(group_, used);
  std::map<at::ScalarType, std::pair<at::Tensor, int64_t>> sums;  // and how far they are read
  for (const auto& [type, of_type] : parts)
    sums[type] = {sum_over_ranks(group_, at::cat(of_type)), 0};
  std::vector<at::Tensor> averages(parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    auto& [flat, offset] = sums[parameters[i].scalar_type()];
    if (used[static_cast<int64_t>(i)].item<int64_t>() > 0)
      averages[i] = flat.narrow(0, offset, parameters[i].numel()).view(parameters[i].sizes());
    offset += parameters[i].numel();
  }
  return averages;
}

}  // namespace longhaul

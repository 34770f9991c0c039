#include "ddp/error_feedback.h"

#include <ATen/ATen.h>

#include "longhaul/base/error.h"
#include "longhaul/base/strings.h"

namespace longhaul {

ErrorFeedback::ErrorFeedback(const std::vector<at::Tensor>& parameters,
                             const std::vector<std::string>& names)
    : names_(names), parameters_(parameters) {
  for (const at::Tensor& parameter : parameters_) {
    residuals_[parameter.unsafeGetTensorImpl()] = at::zeros({parameter.numel()}, at::kFloat);
  }
}

// Residuals of a bucket's parameters are views of one flat tensor, so that one span covers the
// bucket. When buckets were rebuilt, they lie in other tensors, and are copied together once; from
// then on the same flat tensor is given again and again.
at::Tensor ErrorFeedback::residual(const std::vector<at::Tensor>& bucket_parameters) {
  std::vector<at::Tensor> parts;
  int64_t total = 0;
  bool together = true;  // as they were in the step before
  for (const at::Tensor& parameter : bucket_parameters) {
    parts.push_back(residuals_.at(parameter.unsafeGetTensorImpl()));
    together = together && parts.back().storage().is_alias_of(parts.front().storage()) &&
               parts.back().storage_offset() == total;
    total += parameter.numel();
  }
  const bool whole =
      together && parts.front().storage().nbytes() == static_cast<size_t>(total) * sizeof(float);
  if (whole) return parts.front().as_strided({total}, {1}, 0);
  const at::Tensor flat = at::cat(parts);
  int64_t first = 0;
  for (const at::Tensor& parameter : bucket_parameters) {
    residuals_[parameter.unsafeGetTensorImpl()] = flat.narrow(0, first, parameter.numel());
    first += parameter.numel();
  }
  return flat;
}

void ErrorFeedback::adopt(const ErrorFeedback& before) {
  std::unordered_map<std::string, at::Tensor> theirs;
  for (const auto& [name, residual] : before.state()) theirs[name] = residual;
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto found = theirs.find(names_[i]);
    if (found == theirs.end() || found->second.sizes() != parameters_[i].sizes()) continue;
    residuals_.at(parameters_[i].unsafeGetTensorImpl()).copy_(found->second.flatten());
  }
}

NamedTensors ErrorFeedback::state() const {
  NamedTensors state;
  for (size_t i = 0; i < names_.size(); ++i) {
    const at::Tensor& residual = residuals_.at(parameters_[i].unsafeGetTensorImpl());
    state.emplace_back(names_[i], residual.reshape(parameters_[i].sizes()).clone());
  }
  return state;
}

void ErrorFeedback::load(const NamedTensors& state) {
  std::unordered_map<std::string, at::Tensor> given;
  for (const auto& [name, residual] : state) given[name] = residual;
  if (given.size() != names_.size()) {
    throw Error(ErrorKind::kInvalid, str_cat("an error feedback state of ", given.size(),
                                             " parameters for a model of ", names_.size()));
  }
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto found = given.find(names_[i]);
    if (found == given.end() || found->second.numel() != parameters_[i].numel()) {
      throw Error(ErrorKind::kInvalid,
                  str_cat("the error feedback state has no residual of ", parameters_[i].numel(),
                          " elements for parameter '", names_[i], "'"));
    }
  }
  for (size_t i = 0; i < names_.size(); ++i) {
    residuals_.at(parameters_[i].unsafeGetTensorImpl())
        .copy_(given[names_[i]].flatten().to(at::kCPU, at::kFloat));
  }
}

}  // namespace longhaul

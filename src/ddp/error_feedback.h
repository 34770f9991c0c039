// What a lossy codec dropped of each gradient, kept to be added to the same parameter's next one
// (Seide et al., "1-bit stochastic gradient descent", 2014; Karimireddy et al., arXiv:1901.09847).
// Keyed by parameter: buckets are rebuilt after the first step, and a saved state outlives them.
//
// Thread safety: one thread at a time, and not while a reduction works on a bucket's residual.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "longhaul/ddp/options.h"

namespace longhaul {

class ErrorFeedback {
 public:
  // `parameters` are fp32; their names are those of the state.
  ErrorFeedback(const std::vector<at::Tensor>& parameters, const std::vector<std::string>& names);

  // The flat residual, fp32 on the CPU, of a bucket of these parameters in this order; zeros at the
  // start. What is written into it stays theirs.
  at::Tensor residual(const std::vector<at::Tensor>& bucket_parameters);

  // Takes over the residuals of parameters of the same name and size.
  void adopt(const ErrorFeedback& before);

  // Copies, one per parameter, in its shape.
  NamedTensors state() const;
  // Errors: kInvalid, naming a parameter that is missing, unknown or of another size.
  void load(const NamedTensors& state);

 private:
  std::vector<std::string> names_;
  std::vector<at::Tensor> parameters_;
  std::unordered_map<const c10::TensorImpl*, at::Tensor> residuals_;  // flat, views of a bucket's
};

}  // namespace longhaul

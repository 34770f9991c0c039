// options.reduce_dtype: gradients are summed in another type, as with PyTorch's
// _MixedPrecision(reduce_dtype=...), to the bit.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>

namespace longhaul {

class ReduceDtypeHook final : public c10d::CommHookInterface {
 public:
  ReduceDtypeHook(c10::intrusive_ptr<c10d::ProcessGroup> group, at::ScalarType type);

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override;
  at::Tensor parseHookResult(const c10::IValue& result) override;

 private:
  const c10::intrusive_ptr<c10d::ProcessGroup> group_;
  const at::ScalarType type_;
};

}  // namespace longhaul

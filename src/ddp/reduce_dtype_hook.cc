#include "ddp/reduce_dtype_hook.h"

#include <utility>
#include <vector>

namespace longhaul {

using c10::ivalue::Future;

ReduceDtypeHook::ReduceDtypeHook(c10::intrusive_ptr<c10d::ProcessGroup> group, at::ScalarType type)
    : group_(std::move(group)), type_(type) {}

// The sum first, then the division, both in the narrow type: where PyTorch rounds.
c10::intrusive_ptr<Future> ReduceDtypeHook::runHook(c10d::GradBucket& bucket) {
  const at::Tensor& buffer = bucket.getBuffer();
  std::vector<at::Tensor> tensors = {buffer.to(type_)};
  return group_->allreduce(tensors)->getFuture()->then(
      [buffer, narrow = tensors[0], size = group_->getSize()](Future& done) -> c10::IValue {
        static_cast<void>(done.value());  // throws what the exchange failed with
        buffer.copy_(narrow.div_(size));
        return std::vector<at::Tensor>{buffer};
      },
      c10::ListType::create(c10::TensorType::get()));
}

at::Tensor ReduceDtypeHook::parseHookResult(const c10::IValue& result) {
  return c10d::detail::parseCppCommHookResult(result);
}

}  // namespace longhaul

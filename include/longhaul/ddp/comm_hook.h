// What happens to a bucket of gradients instead of the all-reduce: a hook of your own, PyTorch's
// register_comm_hook.
//
//   ddp.register_comm_hook([group = world.process_group()](const longhaul::GradientBucket& bucket)
//   {
//     std::vector<torch::Tensor> tensors = {bucket.buffer.div_(group->getSize())};
//     return group->allreduce(tensors)->getFuture();   // {the average}, what DDP does by itself
//   });
//
// It is called on the thread that runs backward, once per bucket and step, in the same order on
// every rank, and should only start the exchange, so that backward goes on. What it throws comes
// out of backward(). The division by the world size is the hook's.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <variant>
#include <vector>

namespace longhaul {

struct GradientBucket {
  at::Tensor buffer;                   // flat: the gradients, one behind the other; yours to change
  std::vector<at::Tensor> parameters;  // whose gradients they are
  std::vector<at::Tensor> gradients;   // views of the buffer, in the order of `parameters`
  size_t index = 0;                    // which bucket of the step
  bool last = false;                   // no more buckets follow in this step
  uint64_t step = 0;                   // as DistributedDataParallel::step()
};

// What the gradients shall be: a tensor like the buffer (its size, type and device), now, or a
// future of one. Anything else is an Error(kInvalid) out of backward().
class CommHookResult {
 public:
  using Future = c10::intrusive_ptr<c10::ivalue::Future>;
  CommHookResult(at::Tensor gradients) : value_(std::move(gradients)) {}
  CommHookResult(Future future) : value_(std::move(future)) {}

  const std::variant<at::Tensor, Future>& value() const { return value_; }

 private:
  std::variant<at::Tensor, Future> value_;
};

using CommHook = std::function<CommHookResult(const GradientBucket& bucket)>;

}  // namespace longhaul

// Hooks on the gradients of parameters that come before the Reducer's, and on the outputs at which
// a backward pass begins. They run on threads of the autograd engine.
#pragma once

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace longhaul {

// Calls `on_gradient` with the parameter's index each time its gradient has been accumulated. Made
// before the Reducer, so that its hooks come first; what it throws leaves backward().
class GradientWatch {
 public:
  GradientWatch(const std::vector<at::Tensor>& parameters,
                const std::function<void(size_t)>& on_gradient);
  ~GradientWatch();
  GradientWatch(const GradientWatch&) = delete;
  GradientWatch& operator=(const GradientWatch&) = delete;

 private:
  // A shared_ptr or an intrusive_ptr to a Node, by the release of libtorch.
  using Accumulator = decltype(torch::autograd::impl::grad_accumulator(at::Tensor()));
  std::vector<std::pair<Accumulator, uintptr_t>> hooks_;
};

// The number of the task that runs on this thread: one call of backward().
int current_backward_task();

// At the end of the task that runs on this thread, after everything that is called at its end
// because of what happens until then. `before_others` is called just before that.
void at_end_of_backward(std::function<void()> before_others, std::function<void()> after_others);

// Calls `on_backward` with an output's index each time that backward reaches it. Returns how many
// outputs it watches: those that were computed. A parameter handed through cannot be watched; then
// `all` becomes false.
size_t watch_outputs(const std::vector<at::Tensor*>& outputs,
                     const std::function<void(size_t)>& on_backward, bool* all);

}  // namespace longhaul

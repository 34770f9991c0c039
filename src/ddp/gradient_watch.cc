#include "ddp/gradient_watch.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>

#include <memory>

namespace longhaul {

using torch::autograd::Engine;
using torch::autograd::variable_list;
using torch::autograd::utils::LambdaPostHook;

GradientWatch::GradientWatch(const std::vector<at::Tensor>& parameters,
                             const std::function<void(size_t)>& on_gradient) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    Accumulator accumulator = torch::autograd::impl::grad_accumulator(parameters[i]);
    const uintptr_t key = accumulator->add_post_hook(std::make_unique<LambdaPostHook>(
        [on_gradient, i](const variable_list& outputs, const variable_list&) {
          on_gradient(i);
          return outputs;
        }));
    hooks_.emplace_back(std::move(accumulator), key);
  }
}

GradientWatch::~GradientWatch() {
  for (const auto& [accumulator, key] : hooks_) accumulator->del_post_hook(key);
}

int current_backward_task() {
  return torch::autograd::get_current_graph_task_id();
}

// The engine runs callbacks in the order in which they were queued, those too that are queued by
// callbacks. So `before` runs before all that are queued later in this task (the Reducer's among
// them), and `after`, which it queues, behind them.
void at_end_of_backward(std::function<void()> before_others, std::function<void()> after_others) {
  Engine::get_default_engine().queue_callback(
      [before = std::move(before_others), after = std::move(after_others)] {
        before();
        Engine::get_default_engine().queue_callback(after);
      });
}

size_t watch_outputs(const std::vector<at::Tensor*>& outputs,
                     const std::function<void(size_t)>& on_backward, bool* all) {
  size_t watched = 0;
  for (const at::Tensor* output : outputs) {
    if (!output->defined() || !output->requires_grad()) continue;
    if (!output->grad_fn()) {
      *all = false;  // a leaf: a hook on it would stay there for good
      continue;
    }
    output->register_hook([on_backward, i = watched](const at::Tensor&) { on_backward(i); });
    ++watched;
  }
  return watched;
}

}  // namespace longhaul

#include "ddp/backward_clock.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace longhaul {
namespace {

using torch::autograd::Engine;
using torch::autograd::variable_list;
using torch::autograd::utils::LambdaPostHook;

}  // namespace

BackwardClock::BackwardClock(const std::vector<at::Tensor>& parameters,
                             std::shared_ptr<Communicator> communicator)
    : state_(std::make_shared<State>()) {
  state_->communicator = std::move(communicator);
  for (const at::Tensor& parameter : parameters) {
    auto accumulator = torch::autograd::impl::grad_accumulator(parameter);
    const uintptr_t key = accumulator->add_post_hook(std::make_unique<LambdaPostHook>(
        [state = state_](const variable_list& outputs, const variable_list&) {
          on_gradient(state);
          return outputs;
        }));
    hooks_.emplace_back(std::move(accumulator), key);
  }
}

BackwardClock::~BackwardClock() {
  for (const auto& [accumulator, key] : hooks_) accumulator->del_post_hook(key);
}

void BackwardClock::arm() {
  state_->armed.store(true, std::memory_order_relaxed);
}

void BackwardClock::on_gradient(const std::shared_ptr<State>& state) {
  if (!state->armed.load(std::memory_order_relaxed) || !state->armed.exchange(false)) return;
  Engine::get_default_engine().queue_callback([state] {
    const Instant computed = SystemClock().now();
    Engine::get_default_engine().queue_callback([state, computed] {
      state->communicator->traffic().add_wait(seconds_between(computed, SystemClock().now()));
    });
  });
}

}  // namespace longhaul

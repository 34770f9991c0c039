#include "ddp/output_sink.h"

#include <torch/csrc/autograd/custom_function.h>

#include <memory>
#include <utility>

namespace longhaul {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Carried by the node in saved_data, which holds only what an IValue can: a custom class.
struct BackwardCallback : torch::CustomClassHolder {
  explicit BackwardCallback(std::function<void()> call) : call(std::move(call)) {}
  std::function<void()> call;
};

struct Sink : torch::autograd::Function<Sink> {
  static variable_list forward(AutogradContext* context,
                               const c10::intrusive_ptr<BackwardCallback>& callback,
                               at::TensorList inputs) {
    // Outputs that the loss does not use get undefined gradients instead of zeros. These go on
    // through the model's graph without being computed with, and still make the hooks of parameters
    // run.
    context->set_materialize_grads(false);
    context->saved_data["callback"] = c10::IValue::make_capsule(callback);
    // Copies, as Python's class makes them: autograd refuses to change in place what a Function
    // hands through as it is, and a program may well change an output of its model.
    variable_list outputs;
    for (const Variable& input : inputs) outputs.push_back(input.clone());
    return outputs;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto callback = c10::static_intrusive_pointer_cast<BackwardCallback>(
        context->saved_data["callback"].toCapsule());
    if (callback->call) callback->call();
    gradients.insert(gradients.begin(), Variable());  // for `callback`
    return gradients;
  }
};

}  // namespace

void pass_through_sink(const std::vector<at::Tensor*>& outputs, std::function<void()> on_backward) {
  std::vector<at::Tensor*> replaced;
  variable_list inputs;
  for (at::Tensor* output : outputs) {
    if (!output->defined() || !output->grad_fn()) continue;
    replaced.push_back(output);
    inputs.push_back(*output);
  }
  if (inputs.empty()) return;
  const variable_list passed = Sink::apply(
      c10::make_intrusive<BackwardCallback>(std::move(on_backward)), at::TensorList(inputs));
  for (size_t i = 0; i < replaced.size(); ++i) *replaced[i] = passed[i];
}

}  // namespace longhaul

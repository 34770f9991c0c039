// PyTorch's _DDPSink: a node of the autograd graph between the model's output and the loss. Its
// backward runs before that of anything in the model.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace longhaul {

// Replaces each tensor that has a gradient function by a copy that passes through one common node.
// When backward reaches it, `on_backward` runs (may be empty). Outputs that the loss does not use
// get undefined gradients, not zeros.
void pass_through_sink(const std::vector<at::Tensor*>& outputs, std::function<void()> on_backward);

}  // namespace longhaul
